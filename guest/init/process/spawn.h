/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn: making the child of a process, on both sides of the clone. The child inherits PID 1's memory, and so the whole request; the two talk
 * over a SOCK_SEQPACKET pair that execve closes.
 */
#ifndef RUNV_SPAWN_H
#define RUNV_SPAWN_H

#include <sys/types.h>

#include "agent.h"

struct container;

/* What the child says */
enum child_word {
	CHILD_READY = 'r', /* all is in place but the program; a terminal's master may come along */
	CHILD_EXEC = 'x',  /* hooks have run, execve is next: if the socket closes from now on, that is why */
	CHILD_ERROR = 'e', /* error follows; then it exits */
};

/* What PID 1 says */
enum parent_word {
	PARENT_GO = 'g',    /* cgroup and id mappings are in place; only where the child waits for it */
	PARENT_START = 's', /* run the program */
};

struct child_message {
	char word;
	struct error error; /* only as much of the text as there is travels */
};

enum { JOIN_MAX = 8 };

struct spawn {
	struct container *container;
	const struct node *oci;     /* a container's first process; NULL: a further one */
	const struct node *process; /* the OCI process */
	bool terminal;
	unsigned int new_namespaces; /* CLONE_NEW*, all of them */
	int join_fd[JOIN_MAX];       /* namespaces of other containers, or a pidfd of this one's init */
	unsigned int join_flags[JOIN_MAX];
	size_t join_count;
	int cgroup_fd;
	int proc_fd; /* the guest's /proc, for a child that begins elsewhere; -1: it can open it itself */
	int upper_fd; /* for an archive of what the container has changed; or -1 */
	bool in_cgroup; /* the clone has put the child there */
	bool waits;     /* the child, for spawn_release: there is something to be done first */

	/* Set by process_spawn */
	int sync;     /* the child's end */
	int stdio[3]; /* the child's ends; -1 with a terminal */
	int verdict_fd;
};

/*
 * The child's pid, as PID 1's direct child whatever namespaces it is in; or -1. Where it joins namespaces, a process in between has to make it: then
 * verdict_fd is set, the caller's to close, the pid is that one's, and once verdict_fd is readable spawn_verdict gives the child's.
 */
pid_t spawn_clone(struct spawn *spawn, struct error *error);
pid_t spawn_verdict(struct spawn *spawn, int fd, struct error *error);

/* Gives the child its cgroup and its id mappings, as far as the clone has not, and lets it go on. sync is PID 1's end. */
int spawn_release(struct spawn *spawn, pid_t pid, int sync, struct error *error);

/* child.c: what the child does. PID 1's descriptors but those in spawn are closed by it. */
_Noreturn void child_main(struct spawn *spawn);

/* Sends an error to PID 1 and ends the child. */
_Noreturn void child_fail(int sync, const struct error *error);

#endif
