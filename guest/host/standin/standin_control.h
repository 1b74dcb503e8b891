/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control connection of the stand-in (docs/agent-protocol.md, "Requests"): asks for the process's status and, if it is told to, for out-of-memory
 * kills in the container; passes signals and window sizes on.
 */
#ifndef RUNV_STANDIN_CONTROL_H
#define RUNV_STANDIN_CONTROL_H

#include <jansson.h>
#include <stdbool.h>

#include "loop.h"
#include "wire.h"

enum status_kind { STATUS_NONE, STATUS_EXIT, STATUS_SIGNAL, STATUS_LOST };

struct status {
	enum status_kind kind;
	int value; /* the exit code, or the signal */
};

struct control {
	struct watch watch;
	const char *container, *process;
	int fd;
	int next_id;
	unsigned pending;
	int oom_id;      /* of the request that waits for the next out-of-memory kill; 0: none */
	json_int_t kills; /* so many were heard of */
	bool oom;        /* there was a new one; whoever deals with it clears this */
	struct buf in, out;
	struct status status;
};

/* Asks for the status, as the owner of the process; returns when that is written. container and process must outlive control. 0 or -errno. */
int control_start(struct control *control, struct loop *loop, int fd, const char *container, const char *process);

void control_fini(struct control *control);

/* Asks to be told of out-of-memory kills in the container. A guest that cannot tell does no harm. */
void control_watch_oom(struct control *control, struct loop *loop);

/* Whether one more request is within the agent's limit. */
bool control_may_ask(const struct control *control);

void control_signal(struct control *control, struct loop *loop, int number);
void control_resize(struct control *control, struct loop *loop, unsigned rows, unsigned columns);

#endif
