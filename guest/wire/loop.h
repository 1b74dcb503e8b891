/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: one epoll, watches on descriptors and one-shot timers. Used by the init, the bridge and the stand-in.
 *
 * A watch is embedded in its owner's structure; the loop never allocates. A watch may be deleted from within any callback, its own
 * included: events already fetched for it are dropped.
 */
#ifndef RUNV_LOOP_H
#define RUNV_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

enum { LOOP_BATCH = 64 };

struct loop;
struct watch;
struct timer;

typedef void watch_fn(struct loop *loop, struct watch *watch, uint32_t events);
typedef void timer_fn(struct loop *loop, struct timer *timer);

struct watch {
	int fd; /* -1 while not in a loop */
	uint32_t events;
	watch_fn *fn;
};

struct timer {
	int64_t due_ms; /* CLOCK_MONOTONIC; 0 while not armed */
	timer_fn *fn;
	struct timer *next;
};

struct loop {
	int epfd;
	bool stop;
	struct timer *timers;
	struct epoll_event batch[LOOP_BATCH];
	int batch_len;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

int loop_init(struct loop *loop); /* 0 or -errno */
void loop_fini(struct loop *loop);

/* events: EPOLLIN, EPOLLOUT, ...; 0 still reports EPOLLHUP and EPOLLERR */
int loop_add(struct loop *loop, struct watch *watch, int fd, uint32_t events, watch_fn *fn);
int loop_change(struct loop *loop, struct watch *watch, uint32_t events);
void loop_del(struct loop *loop, struct watch *watch); /* does not close the descriptor; harmless when not added */

void loop_arm(struct loop *loop, struct timer *timer, int64_t delay_ms, timer_fn *fn);
void loop_disarm(struct loop *loop, struct timer *timer);

int loop_once(struct loop *loop, int timeout_ms); /* waits at most timeout_ms (-1: for ever), runs what is due; 0 or -errno */
int loop_run(struct loop *loop);                  /* until loop->stop */

int64_t now_ms(void); /* CLOCK_MONOTONIC */

#endif
