/* SPDX-License-Identifier: Apache-2.0 */
#include "standin_links.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	QUIET_MS = 200,	 /* an engine makes a link in many steps */
	PAUSE_MS = 1000, /* between two commands: whoever changes links all the time is not to keep a processor busy */
	READ_SIZE = 16384,
	SIGNAL_SET = 8,
};

/* What the taps do, which the command makes itself, is no news; */
#define OURS "runv-tap"

static bool is_tap(const struct nlmsghdr *message)
{
	const struct ifinfomsg *info = NLMSG_DATA(message);
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));

	for (const struct rtattr *attr = IFLA_RTA(info); RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (attr->rta_type == IFLA_IFNAME)
			return RTA_PAYLOAD(attr) > sizeof(OURS) - 1 && memcmp(RTA_DATA(attr), OURS, sizeof(OURS) - 1) == 0;
	}
	return false;
}

/* nor are addresses and routes that the kernel makes by itself, in the guest as well: that of an IPv6 link comes seconds after the link. */
static bool is_news(const struct nlmsghdr *message)
{
	const struct ifaddrmsg *address = NLMSG_DATA(message);
	const struct rtmsg *route = NLMSG_DATA(message);

	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return message->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)) || !is_tap(message);
	case RTM_NEWADDR:
	case RTM_DELADDR:
		return message->nlmsg_len < NLMSG_LENGTH(sizeof(*address)) || address->ifa_scope < RT_SCOPE_LINK;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		return message->nlmsg_len < NLMSG_LENGTH(sizeof(*route)) || route->rtm_protocol != RTPROT_KERNEL;
	default:
		return false;
	}
}

/* Whether there is news in what the kernel has to say. What it had no room for is. */
static bool read_news(int fd)
{
	union {
		struct nlmsghdr header;
		char bytes[READ_SIZE];
	} buffer;
	bool news = false;

	for (;;) {
		ssize_t n = recv(fd, &buffer, sizeof(buffer), MSG_DONTWAIT);
		size_t left = n > 0 ? (size_t)n : 0;

		if (n < 0 && errno == ENOBUFS)
			news = true;
		else if (n <= 0)
			return news;
		for (const struct nlmsghdr *m = &buffer.header; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left))
			news = news || is_news(m);
	}
}

static _Noreturn void run(const struct links *links)
{
	static char *const no_environment[] = { NULL };
	const uint64_t no_signals = 0;
	int null = -1;

	if (setns(links->home[0], CLONE_NEWNS) == 0 && setns(links->home[1], CLONE_NEWNET) == 0 && chdir("/") == 0)
		null = open("/dev/null", O_RDWR);
	if (null < 0 || setsid() < 0)
		_exit(126);
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	/* It may be one of them: those that were used up are closed. */
	if (null > STDERR_FILENO)
		close(null);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_signals, NULL, SIGNAL_SET);
	execve(links->argv[0], (char *const *)(uintptr_t)links->argv, no_environment);
	_exit(127);
}

static void due(struct loop *loop, struct timer *timer)
{
	struct links *links = container_of(timer, struct links, timer);
	pid_t pid;

	(void)loop;
	links->changed = false;
	pid = fork();
	if (pid == 0)
		run(links);
	/* Without one the next change has to do. */
	links->running = pid > 0 ? pid : 0;
}

static void plan(struct links *links, struct loop *loop)
{
	int64_t delay = links->not_before_ms - now_ms();

	loop_arm(loop, &links->timer, delay > QUIET_MS ? delay : QUIET_MS, due);
}

static void readable(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct links *links = container_of(watch, struct links, watch);

	(void)events;
	if (!read_news(watch->fd))
		return;
	links->changed = true;
	if (!links->running)
		plan(links, loop);
}

int links_start(struct links *links, struct loop *loop)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	int fd, result;

	links->watch.fd = -1;
	if (!links->argv[0])
		return 0;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	result = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : loop_add(loop, &links->watch, fd, EPOLLIN, readable);
	if (result < 0)
		close(fd);
	return result;
}

void links_reap(struct links *links, struct loop *loop)
{
	if (!links->running || waitpid(links->running, NULL, WNOHANG) != links->running)
		return;
	links->running = 0;
	links->not_before_ms = now_ms() + PAUSE_MS;
	if (links->changed)
		plan(links, loop);
}
