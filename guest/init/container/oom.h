/* SPDX-License-Identifier: Apache-2.0 */
/* oom: telling of the kernel's out-of-memory kills in a container, whichever of its processes they hit. */
#ifndef RUNV_OOM_H
#define RUNV_OOM_H

#include <stdint.h>

#include "loop.h"

struct container;
struct oom_waiter;

struct oom {
	uint64_t kills; /* as last seen; those of process_ended */
	struct oom_waiter *waiters;
	struct watch events;
	int events_fd; /* memory.events, once somebody has asked */
};

void oom_init(struct oom *oom);
/* Counts the kills since the last call. */
uint64_t oom_new_kills(struct container *container);
/* Answers who waits for what has come: a kill, or the end of the container. */
void oom_tell(struct container *container);
/* Frees it and answers everybody: the container is gone. */
void oom_fini(struct container *container);

#endif
