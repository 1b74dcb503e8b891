/* SPDX-License-Identifier: Apache-2.0 */
#include "freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "conn.h"
#include "container.h"

enum { FREEZE_MS = 10000 };

void freezer_init(struct freezer *freezer)
{
	freezer->events_fd = freezer->events.fd = -1;
}

static void stop_waiting(struct container *container)
{
	struct freezer *freezer = &container->freezer;

	loop_del(&container->agent->loop, &freezer->events);
	loop_disarm(&container->agent->loop, &freezer->deadline);
	cleanup_closep(&freezer->events_fd);
	freezer->events_fd = -1;
	freezer->reply = NULL;
}

void freezer_thaw(struct container *container, const char *why)
{
	struct reply *reply = container->freezer.reply;
	struct error error;

	if (!reply && !container->freezer.frozen)
		return;
	container->freezer.frozen = false;
	(void)cgroup_freeze(container->cgroup_fd, false);
	if (!reply)
		return;
	stop_waiting(container);
	error_set(&error, KIND_STATE, "cannot pause container \"%s\": %s", container->id, why);
	reply_error(reply, &error);
}

static void look(struct container *container)
{
	struct reply *reply = container->freezer.reply;

	if (!cgroup_frozen(container->cgroup_fd))
		return;
	stop_waiting(container);
	container->freezer.frozen = true;
	reply_ok(reply, NULL);
}

static void events_changed(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct container *container = container_of(container_of(watch, struct freezer, events), struct container, freezer);
	char scratch[128];

	(void)events;
	/* Reading from the start is what makes the kernel tell of the next change. */
	if (pread(container->freezer.events_fd, scratch, sizeof(scratch), 0) < 0)
		loop_del(loop, watch);
	look(container);
}

static void too_late(struct loop *loop, struct timer *timer)
{
	(void)loop;
	freezer_thaw(container_of(container_of(timer, struct freezer, deadline), struct container, freezer), "its processes hang in the kernel");
}

/* 0 or -errno. With 0 the kernel tells when all stands still. */
static int freeze(struct container *container)
{
	struct freezer *freezer = &container->freezer;
	struct loop *loop = &container->agent->loop;
	int result;

	freezer->events_fd = openat(container->cgroup_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (freezer->events_fd < 0)
		return -errno;
	result = loop_add(loop, &freezer->events, freezer->events_fd, EPOLLPRI, events_changed);
	if (result == 0)
		result = cgroup_freeze(container->cgroup_fd, true);
	if (result < 0)
		stop_waiting(container);
	return result;
}

static struct container *find(struct agent *agent, const struct node *args, struct error *error)
{
	const char *id;
	struct container *container = get_str(args, "container", &id, error) < 0 ? NULL : container_find(agent, id, error);
	struct process *init = container ? container_init(container) : NULL;

	if (container && (container->dying || !init || init->state == PROCESS_PREPARING || init->state == PROCESS_EXITED)) {
		error_set(error, KIND_STATE, "container \"%s\" is not running", container->id);
		return NULL;
	}
	return container;
}

int container_pause(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container = find(agent, args, error);
	int result;

	if (!container)
		return -1;
	if (container->freezer.reply || container->freezer.frozen)
		return error_set(error, KIND_STATE, "container \"%s\" is paused already", container->id);
	result = freeze(container);
	if (result < 0)
		return error_sys(error, -result, "cannot pause container \"%s\"", container->id);
	container->freezer.reply = reply;
	loop_arm(&agent->loop, &container->freezer.deadline, FREEZE_MS, too_late);
	look(container);
	return 0;
}

int container_resume(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container = find(agent, args, error);

	if (!container)
		return -1;
	if (!container->freezer.reply && !container->freezer.frozen)
		return error_set(error, KIND_STATE, "container \"%s\" is not paused", container->id);
	freezer_thaw(container, "it was resumed meanwhile");
	reply_ok(reply, NULL);
	return 0;
}
