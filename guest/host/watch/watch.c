/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runv-watch: watches the shared folders of a container on the host and tells its guest what happens in them (docs/agent-protocol.md, "Touching"). It lives
 * as long as its link.
 */
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "resident.h"
#include "watch_tree.h"

enum { OUT_PAUSE = 65536, READY = RESIDENT_FD + 1 };

struct watcher {
	struct loop loop;
	struct watch link, events, signals;
	struct timer gather;
	bool ready; /* the guest has all folders, and whoever started us knows */
	struct tree tree;
};

static void stop(struct watcher *watcher)
{
	watcher->loop.stop = true;
}

static void link_flush(struct watcher *watcher)
{
	struct buf *out = &watcher->tree.orders;

	while (buf_len(out) > 0) {
		ssize_t n = send(RESIDENT_FD, buf_head(out), buf_len(out), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			stop(watcher);
		if (n < 0)
			break;
		buf_consume(out, (size_t)n);
	}
	/* A guest that is slow is not told more than it takes: what happens meanwhile waits in the kernel. */
	if (watcher->tree.broken || loop_change(&watcher->loop, &watcher->link, EPOLLIN | (buf_len(out) > 0 ? EPOLLOUT : 0)) < 0 ||
	    loop_change(&watcher->loop, &watcher->events, buf_len(out) < OUT_PAUSE ? EPOLLIN : 0) < 0)
		stop(watcher);
}

static void gathered(struct loop *loop, struct timer *timer)
{
	struct watcher *watcher = container_of(timer, struct watcher, gather);

	(void)loop;
	tree_flush(&watcher->tree);
	link_flush(watcher);
}

static void inotify_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct watcher *watcher = container_of(watch, struct watcher, events);

	(void)events;
	tree_read(&watcher->tree);
	if (watcher->tree.happened_count > 0 && watcher->gather.due_ms == 0)
		loop_arm(loop, &watcher->gather, GATHER_MS, gathered);
	link_flush(watcher);
}

static void tell_ready(struct watcher *watcher)
{
	static const char full[] = "full\n", all[] = "all\n";
	const char *text = watcher->tree.full ? full : all;

	watcher->ready = true;
	(void)!write(READY, text, strlen(text));
	close(READY);
}

/* The guest says no more than that it has caught up. */
static void link_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct watcher *watcher = container_of(watch, struct watcher, link);
	char scratch[64];
	ssize_t n = events & EPOLLIN ? recv(RESIDENT_FD, scratch, sizeof(scratch), MSG_DONTWAIT) : -1;

	(void)loop;
	if (n == 0 || (events & (EPOLLHUP | EPOLLERR))) {
		stop(watcher);
		return;
	}
	if (n > 0 && !watcher->ready)
		tell_ready(watcher);
	if (events & EPOLLOUT)
		link_flush(watcher);
}

static void signal_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	(void)watch;
	(void)events;
	loop->stop = true;
}

static int watcher_run(struct watcher *watcher)
{
	int term = resident_signals();
	int ret = term < 0 ? term : loop_init(&watcher->loop);

	if (ret == 0)
		ret = loop_add(&watcher->loop, &watcher->signals, term, EPOLLIN, signal_event);
	if (ret == 0)
		ret = loop_add(&watcher->loop, &watcher->events, watcher->tree.inotify, EPOLLIN, inotify_event);
	if (ret == 0)
		ret = loop_add(&watcher->loop, &watcher->link, RESIDENT_FD, EPOLLIN | EPOLLOUT, link_event);
	return ret < 0 ? ret : loop_run(&watcher->loop);
}

static int usage(void)
{
	fputs("usage: runv-watch --link-fd N --ready-fd N [--most FOLDERS] [--label TEXT] PATH...\n", stderr);
	return 2;
}

static int begin(struct watcher *watcher, unsigned int most, char **paths)
{
	int ret = tree_init(&watcher->tree, most);

	for (; ret == 0 && *paths != NULL; paths++)
		ret = tree_add(&watcher->tree, *paths);
	if (ret < 0)
		return ret;
	tree_scan(&watcher->tree);
	tree_order(&watcher->tree, &(struct touch_order){ .kind = TOUCH_SYNC });
	return 0;
}

/* Says what went wrong, as far as anybody still listens. */
static int fail(int fd, int error)
{
	dprintf(fd, "%s\n", strerror(error));
	return 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "link-fd", required_argument, NULL, 'l' },
		{ "ready-fd", required_argument, NULL, 'r' },
		{ "most", required_argument, NULL, 'm' },
		{ "label", required_argument, NULL, 'n' }, /* for those who read ps */
		{ 0 },
	};
	struct watcher *watcher;
	int fds[2] = { -1, -1 }, option, ret;
	unsigned long most = TOUCH_FOLDERS_MAX;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'l')
			fds[0] = resident_fd_argument(optarg);
		else if (option == 'r')
			fds[1] = resident_fd_argument(optarg);
		else if (option == 'm')
			most = strtoul(optarg, NULL, 10);
		else if (option != 'n')
			return 2;
	}
	if (fds[0] < 0 || fds[1] < 0 || most == 0 || most > TOUCH_FOLDERS_MAX || optind == argc || argc - optind > TOUCH_TREES_MAX)
		return usage();
	watcher = calloc(1, sizeof(*watcher));
	if (watcher == NULL)
		return fail(fds[1], ENOMEM);
	prctl(PR_SET_NAME, "runv-watch");
	ret = resident_detach(fds, 2);
	if (ret < 0)
		return fail(fds[1], -ret);
	ret = begin(watcher, (unsigned int)most, argv + optind);
	if (ret < 0)
		return fail(READY, -ret);
	ret = watcher_run(watcher);
	tree_fini(&watcher->tree);
	loop_fini(&watcher->loop);
	free(watcher);
	return ret == 0 ? 0 : 1;
}
