/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container: what was created and not yet deleted. Its cgroup is its identity to the kernel: who is in it belongs to it, whatever it forked.
 */
#ifndef RUNV_CONTAINER_H
#define RUNV_CONTAINER_H

#include "agent.h"
#include "freeze.h"
#include "oom.h"
#include "process.h"

struct container {
	struct container *next;
	struct agent *agent;
	char id[ID_MAX + 1];
	char group[ID_MAX + 12]; /* its cgroup: the id it was made with, or one that nobody has */
	json_t *oci;
	unsigned int namespaces; /* CLONE_NEW*: those it does not share with PID 1 */
	int cgroup_fd;           /* the directory */
	struct process *processes;
	struct freezer freezer;
	struct oom oom;

	/* While it is being taken down, be it by delete or because its creation failed */
	bool dying;
	int tries;
	struct reply *deleted;
	struct reply *failed; /* who asked for its creation */
	struct error failure;
	struct watch cgroup_events;
	int cgroup_events_fd;
	struct timer timer;
	int64_t grace_until; /* for output that nobody fetches */
};

struct container *container_find(struct agent *agent, const char *id, struct error *error);
struct process *container_init(const struct container *container);

/* The operations of docs/agent-protocol.md that concern whole containers */
op_fn container_create, container_exec, container_rename, container_delete;
/* freeze.c */
op_fn container_pause, container_resume;
/* oom.c */
op_fn container_oom;

/* Begins to take the container down. Every later event of its processes goes on with it; it ends by itself. */
void container_take_down(struct container *container);
/* Goes on with it. The container may be gone afterwards. */
void container_progress(struct container *container);

/*
 * Bounds the devices that its processes may open. Not before its first process has set up its root: disks that are mounted there need not be
 * devices that the container may open.
 */
int container_filter_devices(struct container *container, struct error *error);

/* Kills every process of the container, also those that were forked meanwhile. */
void container_kill(struct container *container);

void containers_conn_gone(struct agent *agent, const struct conn *conn);
/* Which process has this pid; NULL: an orphan */
struct process *containers_find_pid(struct agent *agent, pid_t pid);

#endif
