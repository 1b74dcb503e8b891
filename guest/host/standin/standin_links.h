/* SPDX-License-Identifier: Apache-2.0 */
/*
 * links: watches the network namespace of this process and, when something of it has changed, runs the command that brings the change to the guest.
 * Engines add links to a running container, and take them away, without telling its runtime.
 */
#ifndef RUNV_STANDIN_LINKS_H
#define RUNV_STANDIN_LINKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"

enum { LINKS_ARGS_MAX = 16, LINKS_HOME_FDS = 2 };

struct links {
	struct watch watch;
	struct timer timer;
	/*
	 * The mount and the network namespace that the command runs in. Never this process's own: its mounts are the container's, and a program of that
	 * name in there is not ours.
	 */
	int home[LINKS_HOME_FDS];
	const char *argv[LINKS_ARGS_MAX + 1];
	pid_t running;	     /* 0: none */
	bool changed;	     /* since it was started */
	int64_t not_before_ms;
};

/* Does nothing where argv is empty. 0 or -errno */
int links_start(struct links *links, struct loop *loop);
/* A child has ended, perhaps the command. */
void links_reap(struct links *links, struct loop *loop);

#endif
