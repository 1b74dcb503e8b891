/* SPDX-License-Identifier: Apache-2.0 */
/* making: a process from its request until execve: PID 1's side of what child.c does. */
#ifndef RUNV_MAKING_H
#define RUNV_MAKING_H

#include "process.h"

struct spawn;

/*
 * Makes the process and its child; made is answered when the child is ready, or has failed. In spawn the caller has set what is particular to
 * a container's first process or to a further one. On -1 nothing is left, and made is still the caller's.
 */
int process_spawn(struct container *container, const char *id, const struct node *spec, struct spawn *spawn, struct reply *made,
		  struct error *error);

/* The child is dead: hears what it had still said, which may be that execve had succeeded. */
void making_hear(struct process *process);
/* Sets the failure of a child that died without a word. */
void making_explain(struct process *process);
/* Answers who waits for a process that was never ready; a container's, when nothing of it is left. Both may be gone afterwards. */
void making_failed(struct process *process);
/* Closes what the making holds. */
void making_drop(struct process *process);

#endif
