/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <signal.h>
#include <string.h>

#include "cgroup.h"
#include "cleanup.h"
#include "conn.h"
#include "container.h"
#include "cpus.h"
#include "disks.h"
#include "helper.h"
#include "net.h"
#include "power.h"
#include "procs.h"
#include "setup.h"
#include "stats.h"
#include "volume.h"

static struct process *find_process(struct agent *agent, const struct node *args, struct error *error)
{
	const char *container, *process = "init";

	if (get_str(args, "container", &container, error) < 0 || opt_str(args, "process", &process, error) < 0)
		return NULL;
	return process_find(agent, container, process, error);
}

static int op_start(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct process *process = find_process(agent, args, error);

	return process ? process_start(process, reply, error) : -1;
}

static int op_wait(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct process *process = find_process(agent, args, error);
	bool owner = false;

	if (!process || opt_bool(args, "owner", &owner, error) < 0)
		return -1;
	return process_wait(process, owner, reply, error);
}

static void send_signal(pid_t pid, void *arg)
{
	kill(pid, *(const int *)arg);
}

static int signal_all(struct container *container, int number, struct error *error)
{
	int result;

	if (number == SIGKILL) {
		container_kill(container);
		return 0;
	}
	result = cgroup_each_pid(container->cgroup_fd, send_signal, &number);
	return result < 0 ? error_sys(error, -result, "cannot list the processes of container \"%s\"", container->id) : 0;
}

static int op_signal(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct process *process = find_process(agent, args, error);
	int64_t number;
	bool all = false;
	int result;

	if (!process || get_int(args, "signal", 0, SIGRTMAX, &number, error) < 0 || opt_bool(args, "all", &all, error) < 0)
		return -1;
	if (process->state == PROCESS_PREPARING)
		return error_set(error, KIND_STATE, "process \"%s\" is still being created", process->id);
	if (all && process->container->cgroup_fd >= 0)
		result = signal_all(process->container, (int)number, error);
	else
		result = process_signal(process, (int)number, error);
	/* As from runc: who kills a paused container wants its end to be seen through, also where init is not alone in its pid namespace. */
	if (result == 0 && number == SIGKILL && process_is_init(process))
		freezer_thaw(process->container, "it was killed");
	if (result == 0)
		reply_ok(reply, NULL);
	return result;
}

static int op_resize(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct process *process = find_process(agent, args, error);
	int64_t rows, columns;

	if (!process || get_int(args, "rows", 0, UINT16_MAX, &rows, error) < 0 || get_int(args, "columns", 0, UINT16_MAX, &columns, error) < 0)
		return -1;
	if (process_resize(process, (unsigned short)rows, (unsigned short)columns, error) < 0)
		return -1;
	reply_ok(reply, NULL);
	return 0;
}

static struct container *find_container(struct agent *agent, const struct node *args, struct error *error)
{
	const char *id;

	return get_str(args, "container", &id, error) < 0 ? NULL : container_find(agent, id, error);
}

static const char *status_of(const struct container *container)
{
	const struct process *init = container_init(container);

	if (!init || init->state == PROCESS_EXITED)
		return "stopped";
	if (init->state == PROCESS_PREPARING)
		return "creating";
	if (container->freezer.frozen)
		return "paused";
	return init->state == PROCESS_READY ? "created" : "running";
}

static int op_state(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container = find_container(agent, args, error);
	struct process *init;

	if (!container)
		return -1;
	init = container_init(container);
	reply_ok(reply, json_pack("{s:s, s:i}", "status", status_of(container), "pid",
				  init && init->state != PROCESS_EXITED ? (int)init->pid : 0));
	return 0;
}

static int op_update(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container = find_container(agent, args, error);
	struct node resources;

	if (!container || get_object(args, "resources", &resources, error) < 0)
		return -1;
	if (container->dying || container->cgroup_fd < 0)
		return error_set(error, KIND_STATE, "container \"%s\" is being deleted", container->id);
	if (cgroup_apply_limits(container->cgroup_fd, &resources, error) < 0)
		return -1;
	reply_ok(reply, NULL);
	return 0;
}

static int op_processes(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container = find_container(agent, args, error);
	cleanup_json json_t *where = NULL;

	if (!container)
		return -1;
	where = json_pack("{s:s, s:s}", "container", container->id, "group", container->group);
	return helper_start(agent, procs_list, &(struct node){ .json = where }, reply, error);
}

static int op_setup(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	if (!setup_is_quick(args))
		return helper_start(agent, setup_run, args, reply, error);
	if (setup_run(args, NULL, error) < 0)
		return -1;
	reply_ok(reply, NULL);
	return 0;
}

static int op_interfaces(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	return helper_start(agent, net_list, args, reply, error);
}

static int op_unplug(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	return helper_start(agent, net_unplug, args, reply, error);
}

static int op_devices(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	return helper_start(agent, disks_find, args, reply, error);
}

static int op_release(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	return helper_start(agent, disks_release, args, reply, error);
}

static int op_cpus(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	return helper_start(agent, cpus_use, args, reply, error);
}

/* For what works in the container's mounts: its first process, in whose namespace they are. */
static int in_mounts(struct agent *agent, helper_fn *fn, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container = find_container(agent, args, error);
	struct process *init;

	if (!container)
		return -1;
	init = container_init(container);
	if (container->dying || !init || init->state == PROCESS_PREPARING || init->state == PROCESS_EXITED)
		return error_set(error, KIND_STATE, "container \"%s\" is not running", container->id);
	json_object_set_new((json_t *)(uintptr_t)args->json, "pid", json_integer(init->pid));
	return helper_start(agent, fn, args, reply, error);
}

static int op_attach(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	return in_mounts(agent, volume_attach, args, reply, error);
}

static int op_detach(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	return in_mounts(agent, volume_detach, args, reply, error);
}

static int op_tend(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	return helper_start(agent, volume_tend, args, reply, error);
}

static json_t *memory_json(void)
{
	unsigned long long total = 0, available = 0;
	cleanup_file FILE *file = fopen("/proc/meminfo", "re");
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		(void)sscanf(line, "MemTotal: %llu", &total);
		(void)sscanf(line, "MemAvailable: %llu", &available);
	}
	return json_pack("{s:I, s:I}", "total_kib", (json_int_t)total, "available_kib", (json_int_t)available);
}

static int op_sandbox(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	json_t *ids = json_array();

	(void)args;
	(void)error;
	for (const struct container *c = agent->containers; c; c = c->next)
		json_array_append_new(ids, json_string(c->id));
	/* Since boot or, for a clone, since its template's boot */
	reply_ok(reply, json_pack("{s:o, s:I, s:o}", "containers", ids, "uptime_ms", (json_int_t)now_ms(), "memory", memory_json()));
	return 0;
}

static int op_shutdown(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	(void)args;
	(void)error;
	reply_ok(reply, NULL);
	power_off(agent);
	return 0;
}

static const struct {
	const char *name;
	op_fn *fn;
} ops[] = {
	{ "setup", op_setup },
	{ "interfaces", op_interfaces },
	{ "unplug", op_unplug },
	{ "devices", op_devices },
	{ "release", op_release },
	{ "cpus", op_cpus },
	{ "attach", op_attach },
	{ "detach", op_detach },
	{ "tend", op_tend },
	{ "create", container_create },
	{ "exec", container_exec },
	{ "start", op_start },
	{ "wait", op_wait },
	{ "signal", op_signal },
	{ "resize", op_resize },
	{ "processes", op_processes },
	{ "state", op_state },
	{ "pause", container_pause },
	{ "resume", container_resume },
	{ "update", op_update },
	{ "oom", container_oom },
	{ "stats", container_stats },
	{ "delete", container_delete },
	{ "sandbox", op_sandbox },
	{ "rename", container_rename },
	{ "park", agent_park },
	{ "unpark", agent_unpark },
	{ "shutdown", op_shutdown },
};

op_fn *agent_op(const char *name)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (strcmp(ops[i].name, name) == 0)
			return ops[i].fn;
	}
	return NULL;
}
