/* SPDX-License-Identifier: Apache-2.0 */
/* monitor_stdio: the monitor's ends of a process's standard streams: three pipes, or the master of its terminal. */
#ifndef RUNV_MONITOR_STDIO_H
#define RUNV_MONITOR_STDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "wire.h"

enum { STDIO_OUTPUTS = 2, STDIO_READ = 32768, STDIO_IN_MAX = 65536 };

struct stdio;

struct output {
	struct stdio *stdio;
	struct watch watch;
	struct timer again; /* a terminal that nobody has open may be opened again */
	int fd; /* -1: it has ended, or there is none */
	bool held; /* not read now */
};

struct stdio_ops {
	/* number 0: stdout, 1: stderr */
	void (*output)(struct stdio *stdio, int number, const uint8_t *data, size_t len);
	/* Input that had to wait has been taken. */
	void (*input_taken)(struct stdio *stdio);
};

struct stdio {
	struct loop *loop;
	const struct stdio_ops *ops;
	struct output outputs[STDIO_OUTPUTS];
	bool terminal;
	bool ended; /* the process: a terminal that hangs up stays so */
	int in_fd; /* -1: closed, or there is none */
	struct watch in_watch;
	struct buf in; /* what it has not taken yet */
	bool in_end; /* and then the end */
	uint8_t scratch[STDIO_READ];
};

void stdio_init(struct stdio *stdio, struct loop *loop, const struct stdio_ops *ops);

/* The descriptors are ours from now on, whatever happens; -1 for one that there is not. 0 or -errno. */
int stdio_start_pipes(struct stdio *stdio, int in_fd, int out_fd, int err_fd);
int stdio_start_terminal(struct stdio *stdio, int master);

/* Stops or goes on reading one output. */
void stdio_hold(struct stdio *stdio, int number, bool held);

/* No output will come any more. */
bool stdio_drained(const struct stdio *stdio);

/* Whether stdio_input would not have to keep more than it should. */
bool stdio_input_ready(const struct stdio *stdio);
void stdio_input(struct stdio *stdio, const uint8_t *data, size_t len);
void stdio_input_end(struct stdio *stdio); /* after what was input; a terminal has no such end */

/* 0 or -errno; -ENOTTY without a terminal */
int stdio_resize(const struct stdio *stdio, unsigned int rows, unsigned int columns);

/* The process is gone. */
void stdio_process_ended(struct stdio *stdio);

void stdio_fini(struct stdio *stdio);

#endif
