/* SPDX-License-Identifier: Apache-2.0 */
#include "listen.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "conn.h"
#include "mux.h"

#define PORT_NAME "org.runv.agent"

enum {
	BACKLOG = 128,
	ACCEPT_BATCH = 32,
	ACCEPT_PAUSE_MS = 100, /* without descriptors the listener stays readable: look away for a while */
	ATTACH_MS = 20,        /* a port that no host has open hangs up for ever */
	FIND_MS = 50,
};

static const unsigned int ports[2] = { PORT_CONTROL, PORT_STREAM };

static bool known_port(unsigned int port)
{
	return port == PORT_CONTROL || port == PORT_STREAM;
}

static int mux_accept(void *arg, uint32_t port, uint32_t channel)
{
	struct agent *agent = arg;
	int pair[2];

	if (!known_port(port))
		return -ECONNREFUSED;
	if (agent->conn_count >= CONNECTIONS_MAX)
		return -EBUSY;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	conn_accept(agent, pair[0], port, channel);
	return pair[1];
}

static void attach(struct loop *loop, struct timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, link_timer);
	struct pollfd link = { .fd = agent->link_fd };

	if (poll(&link, 1, 0) < 0 || link.revents & (POLLHUP | POLLERR) || mux_attach(agent->mux, agent->link_fd) < 0)
		loop_arm(loop, timer, ATTACH_MS, attach);
}

static void link_down(void *arg, int error)
{
	struct agent *agent = arg;

	(void)error;
	/* A socket whose other end has gone does not come back; only a port does. */
	if (agent->transport != TRANSPORT_TEST)
		loop_arm(&agent->loop, &agent->link_timer, ATTACH_MS, attach);
}

static bool is_agent_port(const char *device)
{
	char path[300], name[64] = "";
	cleanup_file FILE *file = NULL;

	snprintf(path, sizeof(path), "/sys/class/virtio-ports/%.255s/name", device);
	file = fopen(path, "re");
	return file && fgets(name, sizeof(name), file) && strcmp(name, PORT_NAME "\n") == 0;
}

static int open_port(void)
{
	cleanup_dir DIR *dir = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	char path[300];

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !is_agent_port(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "/dev/%.255s", entry->d_name);
		return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	}
	return -1;
}

static bool find_port(struct agent *agent)
{
	if (agent->link_fd < 0)
		agent->link_fd = open_port();
	if (agent->link_fd < 0)
		return false;
	if (agent->uevents.fd >= 0) {
		int fd = agent->uevents.fd;

		loop_del(&agent->loop, &agent->uevents);
		close(fd);
	}
	attach(&agent->loop, &agent->link_timer);
	return true;
}

static void look_again(struct loop *loop, struct timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, link_timer);

	if (!find_port(agent))
		loop_arm(loop, timer, FIND_MS, look_again);
}

static void uevent(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct agent *agent = container_of(watch, struct agent, uevents);
	char scratch[4096];
	bool more = false;

	(void)events;
	while (recv(watch->fd, scratch, sizeof(scratch), MSG_DONTWAIT) >= 0)
		more = true;
	/* Too many came at once: some were lost, but not the need to look. */
	if (!more && errno != ENOBUFS)
		return;
	loop_disarm(loop, &agent->link_timer);
	if (!find_port(agent))
		loop_arm(loop, &agent->link_timer, FIND_MS, look_again);
}

/* The port may appear, and get its name, a moment after us. The kernel tells; the timer is for what it forgets. */
static void wait_for_port(struct agent *agent)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd >= 0 && (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
			loop_add(&agent->loop, &agent->uevents, fd, EPOLLIN, uevent) < 0))
		close(fd);
	/* It may have come before we listened. */
	if (!find_port(agent))
		loop_arm(&agent->loop, &agent->link_timer, FIND_MS, look_again);
}

static int listen_serial(struct agent *agent, struct error *error)
{
	static const struct mux_ops ops = { .accept = mux_accept, .down = link_down };

	agent->mux = mux_new(&agent->loop, &ops, agent);
	if (!agent->mux)
		return error_sys(error, ENOMEM, "cannot make the multiplexer");
	if (agent->link_fd >= 0)
		attach(&agent->loop, &agent->link_timer);
	else
		wait_for_port(agent);
	return 0;
}

static void listen_again(struct loop *loop, struct timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, accept_timer);

	for (size_t i = 0; i < 2; i++)
		(void)loop_change(loop, &agent->listeners[i], EPOLLIN);
}

static void accept_some(struct agent *agent, size_t index)
{
	struct watch *watch = &agent->listeners[index];
	struct loop *loop = &agent->loop;

	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_vm peer = { 0 };
		socklen_t len = sizeof(peer);
		int fd = accept4(watch->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
			(void)loop_change(loop, watch, 0);
			loop_arm(loop, &agent->accept_timer, ACCEPT_PAUSE_MS, listen_again);
		}
		if (fd < 0)
			return;
		/* A container can use vsock as well, and must not take up the connections of the host. */
		if (peer.svm_cid != VMADDR_CID_HOST)
			close(fd);
		else
			conn_accept(agent, fd, ports[index], 0);
	}
}

static void control_connecting(struct loop *loop, struct watch *watch, uint32_t events)
{
	(void)loop;
	(void)events;
	accept_some(container_of(watch, struct agent, listeners[0]), 0);
}

static void stream_connecting(struct loop *loop, struct watch *watch, uint32_t events)
{
	(void)loop;
	(void)events;
	accept_some(container_of(watch, struct agent, listeners[1]), 1);
}

static int listen_vsock(struct agent *agent, struct error *error)
{
	for (size_t i = 0; i < 2; i++) {
		struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = ports[i] };
		int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		int result;

		if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0) {
			error_sys(error, errno, "cannot listen on vsock port %u", ports[i]);
			cleanup_closep(&fd);
			return -1;
		}
		result = loop_add(&agent->loop, &agent->listeners[i], fd, EPOLLIN, i == 0 ? control_connecting : stream_connecting);
		if (result < 0) {
			close(fd);
			return error_sys(error, -result, "cannot watch vsock port %u", ports[i]);
		}
	}
	return 0;
}

int listen_init(struct agent *agent, struct error *error)
{
	return agent->transport == TRANSPORT_VSOCK ? listen_vsock(agent, error) : listen_serial(agent, error);
}
