/* SPDX-License-Identifier: Apache-2.0 */
/* monitor: the one structure of runv-monitor, and how its parts follow each other. */
#ifndef RUNV_MONITOR_H
#define RUNV_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "loop.h"
#include "monitor_clients.h"
#include "monitor_command.h"
#include "monitor_folder.h"
#include "monitor_log.h"
#include "monitor_options.h"
#include "monitor_stdio.h"
#include "resident.h"

enum {
	FD_FOLDER = RESIDENT_FD,
	FD_STATUS, /* where the outcome of the command is told */
};

struct monitor {
	struct options options;
	struct loop loop;
	struct watch signals;
	struct timer patience; /* what is waited for depends on how far it has come */
	int console; /* listening socket for the terminal; -1 */
	pid_t pid; /* of the process; 0: not yet */
	bool taken; /* the folder is ours */
	bool ended, orphaned, impatient, cut, told, done;
	int status; /* raw, once ended */
	struct timespec end_time;
	size_t queued; /* when clients were last looked at in the end */
	char exit[FOLDER_EXIT_MAX];
	struct command command;
	struct stdio stdio;
	struct clients clients;
	struct log log;
};

/* monitor_serve.c: between the process, the clients and the log */
extern const struct stdio_ops monitor_stdio_ops;
extern const struct clients_ops monitor_clients_ops;

/* The state of the log as a JSON object. Returns its length. */
size_t monitor_log_state(const struct monitor *monitor, char *text, size_t size);

/* monitor_process.c: from the command to the end of the process */

/* What the starter is told, who may be gone: a member with a value, or why we could do nothing. Then it is told no more. */
void monitor_report(struct monitor *monitor, const char *member, long value, const char *error);

/* Children that have ended. */
void monitor_reap(struct monitor *monitor);

/* What follows from what has happened. After each pass of the loop. */
void monitor_look(struct monitor *monitor);

/* Takes from the folder what is of no use without a monitor. Before anybody is told that it has failed, so that the folder says the same. */
void monitor_leave_folder(struct monitor *monitor);

#endif
