/* SPDX-License-Identifier: Apache-2.0 */
/* monitor_command: the command that makes the process (runv create, runv exec): how it is run, and what it said. */
#ifndef RUNV_MONITOR_COMMAND_H
#define RUNV_MONITOR_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"

enum { COMMAND_SAID_MAX = 8192, COMMAND_OUTPUTS = 2 };

struct said {
	struct command *command;
	struct watch watch;
};

struct command {
	struct loop *loop;
	pid_t pid; /* 0: it has ended */
	int in_fd; /* our end of its standard input; -1: that is /dev/null */
	int fds[COMMAND_OUTPUTS]; /* our ends of its output; the second one is -1 where one serves for both */
	struct said outputs[COMMAND_OUTPUTS];
	char said[COMMAND_SAID_MAX]; /* the end of what it said itself */
	size_t said_len;
};

/*
 * Runs it. input: its standard input is a pipe, which the process will have. own: what it says is its own and not the process's, as when the process has a
 * terminal, or does not run yet; it is read at once. 0 or -errno.
 */
int command_start(struct command *command, struct loop *loop, char *const *argv, bool terminal, bool input, bool own);

/* It has ended. all: what is still to be read is its own too. */
void command_ended(struct command *command, bool all);

void command_fini(struct command *command);

#endif
