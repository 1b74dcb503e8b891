/* SPDX-License-Identifier: Apache-2.0 */
/*
 * park: everything stands still for the machine to be saved. From then until it is let go on, the loss of a connection takes nothing along, because a
 * machine that is restored from what was saved loses all of them: its host connects anew, claims it, and takes its streams and processes over.
 */
#ifndef RUNV_PARK_H
#define RUNV_PARK_H

#include <stdbool.h>
#include <stdint.h>

#include "jsonget.h"
#include "loop.h"

struct agent;
struct reply;

struct park {
	bool parked; /* also while it is waited for */
	bool frozen;
	struct reply *reply;
	struct timer timer;
	int64_t deadline_ms;
};

/* The operations of docs/agent-protocol.md */
int agent_park(struct agent *agent, const struct node *args, struct reply *reply, struct error *error);
int agent_unpark(struct agent *agent, const struct node *args, struct reply *reply, struct error *error);

#endif
