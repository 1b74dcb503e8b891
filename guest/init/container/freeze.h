/* SPDX-License-Identifier: Apache-2.0 */
/* freeze: pause and resume, by cgroup v2's freezer. A frozen process can be killed, and takes every other signal when it is thawed. */
#ifndef RUNV_FREEZE_H
#define RUNV_FREEZE_H

#include <stdbool.h>

#include "loop.h"

struct container;
struct reply;

struct freezer {
	bool frozen; /* all of the container stands still, or has just been told to go on */
	struct reply *reply; /* who waits for that */
	struct watch events;
	int events_fd; /* cgroup.events */
	struct timer deadline;
};

void freezer_init(struct freezer *freezer);
/* Lets the container go on, whatever it was told before. Whoever waits for it to stand still is told why it does not. */
void freezer_thaw(struct container *container, const char *why);

#endif
