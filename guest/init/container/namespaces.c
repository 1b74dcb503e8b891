/* SPDX-License-Identifier: Apache-2.0 */
#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static const struct kind {
	const char *type; /* OCI's word */
	const char *file; /* below /proc/<pid>/ns */
	unsigned int flag;
} kinds[] = {
	{ "pid", "pid", CLONE_NEWPID },       { "mount", "mnt", CLONE_NEWNS },          { "ipc", "ipc", CLONE_NEWIPC },
	{ "uts", "uts", CLONE_NEWUTS },       { "cgroup", "cgroup", CLONE_NEWCGROUP }, { "user", "user", CLONE_NEWUSER },
	{ "time", "time", CLONE_NEWTIME },    { "network", "net", CLONE_NEWNET },
};

static const struct kind *find_kind(const char *type)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].type, type) == 0)
			return &kinds[i];
	}
	return NULL;
}

static int plan_join(struct container *container, const struct kind *kind, const char *other_id, struct spawn *spawn, struct error *error)
{
	struct container *other = container_find(container->agent, other_id, error);
	struct process *init;
	char path[64];
	int fd;

	if (!other)
		return -1;
	init = container_init(other);
	if (other == container || other->dying || !init || init->state == PROCESS_EXITED || init->state == PROCESS_PREPARING)
		return error_set(error, KIND_STATE, "cannot share the %s namespace of container \"%s\": it is not running", kind->type, other->id);
	/* The other one shares the sandbox's itself. */
	if (!(other->namespaces & kind->flag))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)init->pid, kind->file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_sys(error, errno, "cannot open the %s namespace of container \"%s\"", kind->type, other->id);
	spawn->join_fd[spawn->join_count] = fd;
	spawn->join_flags[spawn->join_count++] = kind->flag;
	container->namespaces |= kind->flag;
	return 0;
}

static int plan_entry(struct container *container, const struct node *entry, unsigned int *seen, struct spawn *spawn, struct error *error)
{
	const char *type, *path = "", *other = NULL;
	const struct kind *kind;

	if (get_str(entry, "type", &type, error) < 0 || opt_str(entry, "path", &path, error) < 0 || opt_str(entry, "container", &other, error) < 0)
		return -1;
	kind = find_kind(type);
	if (!kind)
		return node_fail(entry, "type", error, "is not a known namespace");
	if (*seen & kind->flag)
		return node_fail(entry, "type", error, "is there twice");
	*seen |= kind->flag;
	if (*path)
		return node_fail(entry, "path", error, "means nothing in the guest: name a container");
	/* The sandbox has one network, and all its containers are in it. */
	if (kind->flag == CLONE_NEWNET)
		return 0;
	if (other)
		return plan_join(container, kind, other, spawn, error);
	spawn->new_namespaces |= kind->flag;
	container->namespaces |= kind->flag;
	return 0;
}

/* The power over the other namespaces ends with entering a user namespace, so that comes last. */
static void user_last(struct spawn *spawn)
{
	for (size_t i = 0; i + 1 < spawn->join_count; i++) {
		if (spawn->join_flags[i] == CLONE_NEWUSER) {
			int fd = spawn->join_fd[i];
			size_t last = spawn->join_count - 1;

			spawn->join_fd[i] = spawn->join_fd[last];
			spawn->join_flags[i] = spawn->join_flags[last];
			spawn->join_fd[last] = fd;
			spawn->join_flags[last] = CLONE_NEWUSER;
		}
	}
}

int namespaces_plan(struct container *container, const struct node *linux_node, struct spawn *spawn, struct error *error)
{
	struct node list, entry;
	unsigned int seen = 0;

	if (opt_array(linux_node, "namespaces", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &entry, error) < 0 || plan_entry(container, &entry, &seen, spawn, error) < 0)
			return -1;
	}
	/* Without one of its own a container's mounts, and its root, would be PID 1's. */
	if (!(container->namespaces & CLONE_NEWNS)) {
		spawn->new_namespaces |= CLONE_NEWNS;
		container->namespaces |= CLONE_NEWNS;
	}
	user_last(spawn);
	return 0;
}

static int write_offsets(const struct node *offsets, struct error *error)
{
	static const char *const clocks[] = { "monotonic", "boottime" };
	cleanup_close int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return error_sys(error, errno, "cannot open /proc/self/timens_offsets");
	for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
		int64_t secs = 0, nanosecs = 0;
		struct node clock;
		int found = opt_object(offsets, clocks[i], &clock, error);

		if (found < 0 || opt_int(&clock, "secs", INT64_MIN, INT64_MAX, &secs, error) < 0 ||
		    opt_int(&clock, "nanosecs", 0, 999999999, &nanosecs, error) < 0)
			return -1;
		if (found && dprintf(fd, "%s %lld %lld\n", clocks[i], (long long)secs, (long long)nanosecs) < 0)
			return error_sys(error, errno, "cannot set the %s offset of the time namespace", clocks[i]);
	}
	return 0;
}

/* A new time namespace is for one's children until one enters it; the offsets have to be set in between. */
static int new_time(const struct node *linux_node, struct error *error)
{
	cleanup_close int fd = -1;
	struct node offsets;
	int found = opt_object(linux_node, "timeOffsets", &offsets, error);

	if (found < 0)
		return -1;
	if (unshare(CLONE_NEWTIME) < 0)
		return error_sys(error, errno, "cannot make a time namespace");
	if (found && write_offsets(&offsets, error) < 0)
		return -1;
	fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWTIME) < 0)
		return error_sys(error, errno, "cannot enter the time namespace");
	return 0;
}

int namespaces_late(const struct spawn *spawn, const struct node *linux_node, struct error *error)
{
	if (spawn->new_namespaces & CLONE_NEWCGROUP && unshare(CLONE_NEWCGROUP) < 0)
		return error_sys(error, errno, "cannot make a cgroup namespace");
	return spawn->new_namespaces & CLONE_NEWTIME ? new_time(linux_node, error) : 0;
}

int namespaces_names(const struct container *container, const struct node *oci, struct error *error)
{
	const char *hostname = "", *domainname = "";

	if (opt_str(oci, "hostname", &hostname, error) < 0 || opt_str(oci, "domainname", &domainname, error) < 0)
		return -1;
	if ((*hostname || *domainname) && !(container->namespaces & CLONE_NEWUTS))
		return error_set(error, KIND_INVALID, "unable to set hostname without a private UTS namespace");
	if (*hostname && sethostname(hostname, strlen(hostname)) < 0)
		return error_sys(error, errno, "cannot set the hostname to %s", hostname);
	if (*domainname && setdomainname(domainname, strlen(domainname)) < 0)
		return error_sys(error, errno, "cannot set the domainname to %s", domainname);
	return 0;
}
