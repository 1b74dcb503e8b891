/* SPDX-License-Identifier: Apache-2.0 */
#include "oom.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "conn.h"
#include "container.h"

struct oom_waiter {
	struct oom_waiter *next;
	struct reply *reply;
	uint64_t seen;
};

void oom_init(struct oom *oom)
{
	oom->events_fd = oom->events.fd = -1;
}

static uint64_t count(const struct container *container)
{
	return container->cgroup_fd >= 0 ? cgroup_oom_kills(container->cgroup_fd) : 0;
}

uint64_t oom_new_kills(struct container *container)
{
	uint64_t now = count(container);
	uint64_t fresh = now > container->oom.kills ? now - container->oom.kills : 0;

	container->oom.kills = now;
	return fresh;
}

static bool has_ended(const struct container *container)
{
	const struct process *init = container_init(container);

	return container->dying || !init || init->state == PROCESS_EXITED;
}

static void answer(struct oom_waiter *waiter, uint64_t kills, bool ended)
{
	reply_ok(waiter->reply, json_pack("{s:I, s:b}", "kills", (json_int_t)kills, "ended", ended));
	free(waiter);
}

static void tell(struct container *container, bool ended)
{
	struct oom_waiter **link = &container->oom.waiters;
	uint64_t kills = *link ? count(container) : 0;

	while (*link) {
		struct oom_waiter *waiter = *link;

		/* Who has gone is forgotten on the way. */
		if (!ended && waiter->seen == kills && waiter->reply->conn) {
			link = &waiter->next;
			continue;
		}
		*link = waiter->next;
		answer(waiter, kills, ended);
	}
}

void oom_tell(struct container *container)
{
	tell(container, has_ended(container));
}

void oom_fini(struct container *container)
{
	tell(container, true);
	loop_del(&container->agent->loop, &container->oom.events);
	cleanup_closep(&container->oom.events_fd);
}

static void events_changed(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct container *container = container_of(container_of(watch, struct oom, events), struct container, oom);
	char scratch[256];

	(void)events;
	/* Reading from the start is what makes the kernel tell of the next change. */
	if (pread(container->oom.events_fd, scratch, sizeof(scratch), 0) < 0)
		loop_del(loop, watch);
	oom_tell(container);
}

/* Where the kernel does not count memory there is nothing to watch, and the answer comes at the end. */
static int watch_events(struct container *container)
{
	struct oom *oom = &container->oom;

	if (oom->events_fd >= 0 || container->cgroup_fd < 0)
		return 0;
	oom->events_fd = openat(container->cgroup_fd, "memory.events", O_RDONLY | O_CLOEXEC);
	if (oom->events_fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return loop_add(&container->agent->loop, &oom->events, oom->events_fd, EPOLLPRI, events_changed);
}

int container_oom(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container;
	struct oom_waiter *waiter;
	const char *id;
	int64_t seen = 0;
	int result;

	if (get_str(args, "container", &id, error) < 0 || opt_int(args, "seen", 0, INT64_MAX, &seen, error) < 0)
		return -1;
	container = container_find(agent, id, error);
	if (!container)
		return -1;
	result = watch_events(container);
	waiter = result == 0 ? calloc(1, sizeof(*waiter)) : NULL;
	if (!waiter)
		return error_sys(error, result < 0 ? -result : ENOMEM, "cannot watch the memory of container \"%s\"", id);
	waiter->reply = reply;
	waiter->seen = (uint64_t)seen;
	waiter->next = container->oom.waiters;
	container->oom.waiters = waiter;
	oom_tell(container);
	return 0;
}
