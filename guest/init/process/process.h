/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process: a container process as PID 1 sees it, from the request that makes it until its status was told and its output delivered.
 *
 *	PREPARING --ready--> READY --start--> STARTING --execve--> RUNNING
 *	    any of them --SIGCHLD--> EXITED
 */
#ifndef RUNV_PROCESS_H
#define RUNV_PROCESS_H

#include <sys/types.h>

#include "agent.h"
#include "stream.h"

struct conn;
struct container;
struct spawn;

enum { PROCESS_STREAMS = 3 };

enum process_state { PROCESS_PREPARING, PROCESS_READY, PROCESS_STARTING, PROCESS_RUNNING, PROCESS_EXITED };

struct waiter {
	struct waiter *next;
	struct reply *reply;
};

struct process {
	struct process *next;
	struct container *container;
	char id[ID_MAX + 1];
	enum process_state state;
	pid_t pid;    /* 0: not known yet */
	pid_t helper; /* meanwhile, the process in between */
	struct watch verdict;
	struct spawn *late; /* what is still to be done when it is known */
	int status; /* as of waitpid, once EXITED */
	bool oom;
	bool told;   /* its end was told to its owner */
	bool failed; /* it ended before its program ran; failure says why */
	struct error failure;
	bool executing; /* said CHILD_EXEC */
	struct watch sync; /* the socket to the child, until execve closes it */
	struct reply *made; /* who waits for READY */
	struct reply *started;
	struct waiter *waiters;
	struct conn *owner;
	bool owned;
	bool lost; /* its owner has gone while the machine was parked */
	json_t *spec; /* the OCI process, until it is READY: what PID 1 has to apply to it */
	struct stream streams[PROCESS_STREAMS];
};

/* NULL with kind "not-found". process_find takes the container's id, too. */
struct process *process_find(struct agent *agent, const char *container, const char *id, struct error *error);
struct process *process_get(struct container *container, const char *id);

int process_start(struct process *process, struct reply *reply, struct error *error);
int process_wait(struct process *process, bool owner, struct reply *reply, struct error *error);
int process_signal(struct process *process, int signal, struct error *error);
int process_resize(struct process *process, unsigned short rows, unsigned short columns, struct error *error);

void process_kill(const struct process *process);
bool process_is_init(const struct process *process);

/* From waitpid. The process may be gone afterwards. */
void process_ended(struct process *process, int status);
/* From a stream that is over. The process may be gone afterwards. */
void process_stream_done(struct process *process);
/* The connection has ended; kills what it owned. */
void process_conn_gone(struct process *process, const struct conn *conn);

/* The machine is parked no more: what owners and readers that went meanwhile take along goes now. */
void processes_lost(struct agent *agent);
/* Nobody owns anything any more. A container's first process can be owned anew, all others are killed. */
void processes_disown(struct agent *agent);

/* Output is still on its way, or the process is still there. */
bool process_busy(const struct process *process);
/* Answers who still waits, drops the streams, and frees it. It must have ended. */
void process_forget(struct process *process);

#endif
