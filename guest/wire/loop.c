/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int loop_init(struct loop *loop)
{
	*loop = (struct loop){ .epfd = epoll_create1(EPOLL_CLOEXEC) };
	return loop->epfd < 0 ? -errno : 0;
}

void loop_fini(struct loop *loop)
{
	if (loop->epfd >= 0)
		close(loop->epfd);
	loop->epfd = -1;
	loop->timers = NULL;
}

int loop_add(struct loop *loop, struct watch *watch, int fd, uint32_t events, watch_fn *fn)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	/* So that a watch whose addition failed may be deleted like any other. */
	*watch = (struct watch){ .fd = -1 };
	if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	*watch = (struct watch){ .fd = fd, .events = events, .fn = fn };
	return 0;
}

int loop_change(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (watch->events == events)
		return 0;
	if (epoll_ctl(loop->epfd, EPOLL_CTL_MOD, watch->fd, &event) < 0)
		return -errno;
	watch->events = events;
	return 0;
}

void loop_del(struct loop *loop, struct watch *watch)
{
	if (watch->fn == NULL)
		return;
	epoll_ctl(loop->epfd, EPOLL_CTL_DEL, watch->fd, NULL);
	*watch = (struct watch){ .fd = -1 };
	/* The owner may free the watch now, so what was fetched for it must not be looked at again. */
	for (int i = 0; i < loop->batch_len; i++)
		if (loop->batch[i].data.ptr == watch)
			loop->batch[i].data.ptr = NULL;
}

void loop_disarm(struct loop *loop, struct timer *timer)
{
	struct timer **at = &loop->timers;

	if (timer->due_ms == 0)
		return;
	while (*at != NULL && *at != timer)
		at = &(*at)->next;
	if (*at != NULL)
		*at = timer->next;
	timer->due_ms = 0;
	timer->next = NULL;
}

void loop_arm(struct loop *loop, struct timer *timer, int64_t delay_ms, timer_fn *fn)
{
	struct timer **at = &loop->timers;

	loop_disarm(loop, timer);
	/* Never due in the pass that arms it: a timer that arms itself anew must not keep the loop from its descriptors. */
	timer->due_ms = now_ms() + (delay_ms > 0 ? delay_ms : 1);
	timer->fn = fn;
	while (*at != NULL && (*at)->due_ms <= timer->due_ms)
		at = &(*at)->next;
	timer->next = *at;
	*at = timer;
}

static int next_wait(const struct loop *loop, int timeout_ms)
{
	int64_t left;

	if (loop->timers == NULL)
		return timeout_ms;
	left = loop->timers->due_ms - now_ms();
	if (left < 0)
		left = 0;
	if (left > INT_MAX)
		left = INT_MAX;
	return timeout_ms >= 0 && timeout_ms < left ? timeout_ms : (int)left;
}

static void run_timers(struct loop *loop)
{
	int64_t now = now_ms();

	while (loop->timers != NULL && loop->timers->due_ms <= now) {
		struct timer *timer = loop->timers;

		loop_disarm(loop, timer);
		timer->fn(loop, timer);
	}
}

int loop_once(struct loop *loop, int timeout_ms)
{
	int n = epoll_wait(loop->epfd, loop->batch, LOOP_BATCH, next_wait(loop, timeout_ms));

	if (n < 0 && errno != EINTR)
		return -errno;
	loop->batch_len = n > 0 ? n : 0;
	for (int i = 0; i < loop->batch_len; i++) {
		struct watch *watch = loop->batch[i].data.ptr;

		if (watch != NULL)
			watch->fn(loop, watch, loop->batch[i].events);
	}
	loop->batch_len = 0;
	run_timers(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int ret = 0;

	while (!loop->stop && ret == 0)
		ret = loop_once(loop, -1);
	return ret;
}
