/* SPDX-License-Identifier: Apache-2.0 */
#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "archive.h"
#include "cgroup.h"
#include "cleanup.h"
#include "conn.h"
#include "making.h"
#include "namespaces.h"
#include "spawn.h"

enum {
	GRACE_MS = 1000,  /* for output that its reader does not fetch, once the processes are gone */
	RETRY_MS = 20,
	LOG_AFTER = 500, /* tries, that is 10 s: a process that cannot be killed hangs in the kernel, most likely on a share */
};

bool id_valid(const char *id)
{
	size_t len = strlen(id);

	if (len == 0 || len > ID_MAX || strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
		return false;
	return strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-") == len;
}

static struct container *lookup(struct agent *agent, const char *id)
{
	struct container *container = agent->containers;

	while (container && strcmp(container->id, id) != 0)
		container = container->next;
	return container;
}

struct container *container_find(struct agent *agent, const char *id, struct error *error)
{
	struct container *container = lookup(agent, id);

	if (!container)
		error_set(error, KIND_NOT_FOUND, "container \"%.*s\" does not exist", ID_MAX, id);
	return container;
}

struct process *container_init(const struct container *container)
{
	return process_get((struct container *)(uintptr_t)container, "init");
}

struct process *containers_find_pid(struct agent *agent, pid_t pid)
{
	for (struct container *c = agent->containers; c; c = c->next) {
		for (struct process *p = c->processes; p; p = p->next) {
			if (p->pid == pid && p->state != PROCESS_EXITED)
				return p;
		}
	}
	return NULL;
}

void containers_conn_gone(struct agent *agent, const struct conn *conn)
{
	for (struct container *c = agent->containers; c; c = c->next) {
		struct process *next;

		for (struct process *p = c->processes; p; p = next) {
			next = p->next;
			process_conn_gone(p, conn);
		}
	}
}

void container_kill(struct container *container)
{
	if (container->cgroup_fd >= 0)
		(void)cgroup_kill(container->cgroup_fd);
	/* Also those that are still on their way into the cgroup */
	for (struct process *p = container->processes; p; p = p->next)
		process_kill(p);
}

/* Frees all of it and tells who waited for that. */
static void container_free(struct container *container)
{
	struct agent *agent = container->agent;

	for (struct container **link = &agent->containers; *link; link = &(*link)->next) {
		if (*link == container) {
			*link = container->next;
			break;
		}
	}
	agent->container_count--;
	while (container->processes)
		process_forget(container->processes);
	loop_del(&agent->loop, &container->cgroup_events);
	loop_disarm(&agent->loop, &container->timer);
	oom_fini(container);
	cleanup_closep(&container->cgroup_events_fd);
	cleanup_closep(&container->cgroup_fd);
	json_decref(container->oci);
	if (container->failed)
		reply_error(container->failed, &container->failure);
	if (container->deleted)
		reply_ok(container->deleted, NULL);
	free(container);
}

static void progress_timer(struct loop *loop, struct timer *timer)
{
	(void)loop;
	container_progress(container_of(timer, struct container, timer));
}

static void cgroup_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct container *container = container_of(watch, struct container, cgroup_events);
	char scratch[128];

	(void)events;
	/* Reading from the start is what makes the kernel tell of the next change. */
	if (pread(container->cgroup_events_fd, scratch, sizeof(scratch), 0) < 0)
		loop_del(loop, watch);
	container_progress(container);
}

static bool processes_alive(const struct container *container)
{
	for (const struct process *p = container->processes; p; p = p->next) {
		if (p->state != PROCESS_EXITED)
			return true;
	}
	return false;
}

static bool processes_busy(const struct container *container)
{
	for (const struct process *p = container->processes; p; p = p->next) {
		if (process_busy(p))
			return true;
	}
	return false;
}

void container_progress(struct container *container)
{
	struct loop *loop = &container->agent->loop;
	int result;

	if (!container->dying)
		return;
	if (++container->tries == LOG_AFTER)
		agent_log(container->agent, "container %s: its processes do not end", container->id);
	loop_arm(loop, &container->timer, container->tries < LOG_AFTER ? RETRY_MS : GRACE_MS, progress_timer);
	if (processes_alive(container) || (container->cgroup_fd >= 0 && cgroup_populated(container->cgroup_fd))) {
		container_kill(container);
		return;
	}
	if (!container->grace_until)
		container->grace_until = now_ms() + GRACE_MS;
	if (processes_busy(container) && now_ms() < container->grace_until)
		return;
	result = container->cgroup_fd >= 0 ? cgroup_remove(container->group) : 0;
	if (result == 0)
		container_free(container);
}

void container_take_down(struct container *container)
{
	struct loop *loop = &container->agent->loop;

	if (container->dying)
		return;
	container->dying = true;
	freezer_thaw(container, "it is being deleted");
	if (container->cgroup_fd >= 0)
		container->cgroup_events_fd = openat(container->cgroup_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	/* Without it the timer does the work. */
	if (container->cgroup_events_fd >= 0)
		(void)loop_add(loop, &container->cgroup_events, container->cgroup_events_fd, EPOLLPRI, cgroup_event);
	container_kill(container);
	loop_arm(loop, &container->timer, 1, progress_timer);
}

static bool group_taken(const struct agent *agent, const char *group)
{
	const struct container *container = agent->containers;

	while (container && strcmp(container->group, group) != 0)
		container = container->next;
	return container != NULL;
}

/* A container that was renamed keeps its cgroup, whose name cannot be changed. No id has the sign. */
static void name_group(const struct agent *agent, struct container *container)
{
	strcpy(container->group, container->id);
	for (unsigned int i = 1; group_taken(agent, container->group); i++)
		snprintf(container->group, sizeof(container->group), "%.128s~%u", container->id, i);
}

static struct container *container_new(struct agent *agent, const char *id, const struct node *oci)
{
	struct container *container = calloc(1, sizeof(*container));

	if (!container)
		return NULL;
	strcpy(container->id, id);
	name_group(agent, container);
	container->agent = agent;
	container->oci = json_incref((json_t *)(uintptr_t)oci->json);
	container->cgroup_fd = container->cgroup_events_fd = -1;
	container->cgroup_events.fd = -1;
	freezer_init(&container->freezer);
	oom_init(&container->oom);
	container->next = agent->containers;
	agent->containers = container;
	agent->container_count++;
	return container;
}

/* The one that was made ahead: it takes the kernel almost as long as a process with all its namespaces. */
static bool take_spare(struct container *container)
{
	struct agent *agent = container->agent;

	if (agent->spare_cgroup < 0)
		return false;
	strcpy(container->group, CGROUP_SPARE);
	container->cgroup_fd = agent->spare_cgroup;
	agent->spare_cgroup = -1;
	return true;
}

/* Where the container sees its own cgroup as the first of all, any will do; else its name tells whose it is. */
static int make_cgroup(struct container *container, const struct node *linux_node, bool nameless, struct error *error)
{
	struct node resources;

	if (!nameless || !take_spare(container))
		container->cgroup_fd = cgroup_create(container->group, error);
	if (container->cgroup_fd < 0 || opt_object(linux_node, "resources", &resources, error) < 0)
		return -1;
	return cgroup_apply_limits(container->cgroup_fd, &resources, error);
}

int container_filter_devices(struct container *container, struct error *error)
{
	struct node oci = { .json = container->oci, .name = "oci" }, linux_node, resources;

	if (opt_object(&oci, "linux", &linux_node, error) < 0 || opt_object(&linux_node, "resources", &resources, error) < 0)
		return -1;
	return device_filter_attach(container->cgroup_fd, &resources, container->agent->device_filters, error);
}

static int start_init(struct container *container, const struct node *oci, const struct node *spec, struct reply *reply, struct error *error)
{
	struct spawn spawn = { .container = container, .oci = oci, .process = spec, .upper_fd = -1 };
	struct node linux_node;
	int result = -1;

	if (opt_bool(spec, "terminal", &spawn.terminal, error) < 0 || opt_object(oci, "linux", &linux_node, error) < 0)
		return -1;
	if (namespaces_plan(container, &linux_node, &spawn, error) == 0 && make_cgroup(container, &linux_node, spawn.new_namespaces & CLONE_NEWCGROUP, error) == 0 &&
	    (!(spawn.new_namespaces & CLONE_NEWCGROUP) ||
	     cgroup_delegate(container->cgroup_fd, oci, container->namespaces & CLONE_NEWUSER, error) == 0)) {
		spawn.cgroup_fd = container->cgroup_fd;
		result = process_spawn(container, "init", spec, &spawn, reply, error);
	}
	for (size_t i = 0; i < spawn.join_count; i++)
		close(spawn.join_fd[i]);
	return result;
}

static int get_id(const struct node *args, const char *member, const char **id, struct error *error)
{
	if (get_str(args, member, id, error) < 0)
		return -1;
	return id_valid(*id) ? 0 : node_fail(args, member, error, "is not a valid id");
}

int container_create(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container;
	struct node oci, spec;
	const char *id;

	if (get_id(args, "container", &id, error) < 0 || get_object(args, "oci", &oci, error) < 0 ||
	    get_object(&oci, "process", &spec, error) < 0)
		return -1;
	if (lookup(agent, id))
		return error_set(error, KIND_EXISTS, "container \"%s\" exists already", id);
	if (agent->powering_off)
		return error_set(error, KIND_STATE, "the machine is being shut down");
	if (agent->container_count >= CONTAINERS_MAX)
		return error_set(error, KIND_BUSY, "there are %d containers already", CONTAINERS_MAX);
	container = container_new(agent, id, &oci);
	if (!container)
		return error_sys(error, ENOMEM, "cannot create container \"%s\"", id);
	if (start_init(container, &oci, &spec, reply, error) < 0) {
		/* The answer waits until nothing is left. */
		container->failed = reply;
		container->failure = *error;
		container_take_down(container);
	}
	return 0;
}

/* The two steps in which a process enters a container: its user namespace last, because the power over the others ends there. */
static int plan_entry(struct container *container, pid_t init, struct spawn *spawn, struct error *error)
{
	unsigned int others = container->namespaces & ~(unsigned int)CLONE_NEWUSER;
	unsigned int steps[2] = { others, container->namespaces & CLONE_NEWUSER };

	for (size_t i = 0; i < 2; i++) {
		int fd;

		if (!steps[i])
			continue;
		fd = (int)syscall(SYS_pidfd_open, init, 0);
		if (fd < 0)
			return error_sys(error, errno, "cannot open the first process of container \"%s\"", container->id);
		spawn->join_fd[spawn->join_count] = fd;
		spawn->join_flags[spawn->join_count++] = steps[i];
	}
	return 0;
}

static int start_exec(struct container *container, const char *id, const struct node *args, struct reply *reply, struct error *error)
{
	struct spawn spawn = { .container = container, .cgroup_fd = -1, .upper_fd = -1 };
	struct process *init = container_init(container);
	struct node oci = { .json = container->oci, .name = "oci" }, spec;
	struct archive archive;
	const char *below = "";
	int result = -1;
	bool apart;

	if (get_object(args, "spec", &spec, error) < 0 || archive_parse(&spec, &archive, error) < 0 || opt_bool(&spec, "terminal", &spawn.terminal, error) < 0 ||
	    opt_str(args, "cgroup", &below, error) < 0)
		return -1;
	if (container->dying || !init || init->state == PROCESS_PREPARING || init->state == PROCESS_EXITED)
		return error_set(error, KIND_STATE, "container \"%s\" is not running", container->id);
	spawn.process = &spec;
	if (archive.kind == ARCHIVE_DIFF && (spawn.upper_fd = archive_open_upper(&oci, error)) < 0)
		return -1;
	/* The files of a container that stands still can be read. Only the engine makes such a process, of its own code: it needs no limits. */
	apart = archive.kind != ARCHIVE_NONE && container->freezer.frozen;
	if (!apart)
		spawn.cgroup_fd = *below ? cgroup_open_below(container->cgroup_fd, below, error) :
					   cgroup_open_for_exec(container->cgroup_fd, container->group, init->pid, error);
	if ((apart || spawn.cgroup_fd >= 0) && plan_entry(container, init->pid, &spawn, error) == 0)
		result = process_spawn(container, id, &spec, &spawn, reply, error);
	for (size_t i = 0; i < spawn.join_count; i++)
		close(spawn.join_fd[i]);
	cleanup_closep(&spawn.cgroup_fd);
	cleanup_closep(&spawn.upper_fd);
	return result;
}

int container_exec(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container;
	const char *name, *id;

	if (get_str(args, "container", &name, error) < 0 || get_id(args, "process", &id, error) < 0)
		return -1;
	container = container_find(agent, name, error);
	if (!container)
		return -1;
	if (process_get(container, id))
		return error_set(error, KIND_EXISTS, "process \"%s\" exists already", id);
	return start_exec(container, id, args, reply, error);
}

int container_rename(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container;
	const char *id, *to;

	if (get_str(args, "container", &id, error) < 0 || get_id(args, "to", &to, error) < 0)
		return -1;
	container = container_find(agent, id, error);
	if (!container)
		return -1;
	if (strcmp(id, to) != 0 && lookup(agent, to))
		return error_set(error, KIND_EXISTS, "container \"%s\" exists already", to);
	strcpy(container->id, to);
	reply_ok(reply, NULL);
	return 0;
}

int container_delete(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container;
	const char *id;

	if (get_str(args, "container", &id, error) < 0)
		return -1;
	container = container_find(agent, id, error);
	if (!container)
		return -1;
	if (container->deleted)
		return error_set(error, KIND_STATE, "container \"%s\" is being deleted already", id);
	container->deleted = reply;
	container_take_down(container);
	return 0;
}
