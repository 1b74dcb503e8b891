/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup: one cgroup v2 directory per container, /sys/fs/cgroup/runv/<group>. All of it is kernel memory: PID 1 may do this itself. */
#ifndef RUNV_CGROUP_H
#define RUNV_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "jsonget.h"

#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_PARENT CGROUP_ROOT "/runv"

/* What the cgroup is called that is made ahead. No id has the sign. */
#define CGROUP_SPARE "~"

/* At boot: the parent of all, with every controller there is handed down, and a cgroup for the first container. Its descriptor, or -1. */
int cgroup_init(struct error *error);

/* The directory's descriptor, or -1. */
int cgroup_create(const char *id, struct error *error);
/* A cgroup below one of a container's, which must be there; path is relative and may be empty. */
int cgroup_open_below(int cgroup_fd, const char *path, struct error *error);
/* Where a further process of the container can go: its cgroup, or the one its init has moved to. */
int cgroup_open_for_exec(int cgroup_fd, const char *id, pid_t init, struct error *error);

/* 0, or -errno: -EBUSY while processes, also dying ones, are in it. Removes what is below, too. */
int cgroup_remove(const char *id);

bool cgroup_populated(int cgroup_fd);
int cgroup_kill(int cgroup_fd);
int cgroup_freeze(int cgroup_fd, bool freeze);
/* Whether all that is in it stands still. */
bool cgroup_frozen(int cgroup_fd);
uint64_t cgroup_oom_kills(int cgroup_fd);

/* Calls fn for every process in the cgroup and below. */
typedef void cgroup_pid_fn(pid_t pid, void *arg);
int cgroup_each_pid(int cgroup_fd, cgroup_pid_fn *fn, void *arg);

/* cgroup_limits.c: OCI's linux.resources but for the devices */
int cgroup_apply_limits(int cgroup_fd, const struct node *resources, struct error *error);

/* delegate.c: makes it the process's own where the container may divide it; for one with a cgroup namespace of its own. */
int cgroup_delegate(int cgroup_fd, const struct node *oci, bool user_namespace, struct error *error);

enum { DEVICE_FILTERS_KEPT = 2 };

/* device_filter.c: OCI's linux.resources.devices, as a BPF program on the cgroup: one of the kept ones, or a new one. */
int device_filter_attach(int cgroup_fd, const struct node *resources, const int kept[DEVICE_FILTERS_KEPT], struct error *error);
/*
 * At boot: the programs for the lists that most containers have; -1 for one that cannot be. Machines that are cloned from one which has them share them,
 * and the 2 MiB that the kernel takes for compiled BPF, and fills, with the first program.
 */
void device_filters_keep(int kept[DEVICE_FILTERS_KEPT]);

#endif
