/* SPDX-License-Identifier: Apache-2.0 */
#include "park.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "agent.h"
#include "cgroup.h"
#include "cleanup.h"
#include "conn.h"
#include "container.h"

enum {
	FREEZE_MS = 10000,
	READ_MS = 2000, /* and so much longer for the host to read what was written before */
	LOOK_MS = 2,
};

static void each_stream(struct agent *agent, void (*fn)(struct stream *stream))
{
	for (struct container *c = agent->containers; c; c = c->next) {
		struct process *next;

		for (struct process *p = c->processes; p; p = next) {
			next = p->next;
			for (size_t i = 0; i < PROCESS_STREAMS; i++)
				fn(&p->streams[i]);
		}
	}
}

/* The first process whose output is not on its way to the host yet */
static struct process *unread(struct agent *agent)
{
	for (struct container *c = agent->containers; c; c = c->next) {
		for (struct process *p = c->processes; p; p = p->next) {
			for (size_t i = 0; i < PROCESS_STREAMS; i++) {
				if (!stream_quiet(&p->streams[i]))
					return p;
			}
		}
	}
	return NULL;
}

/* All containers at once, whatever the freezer of each of them says. 0 or -errno */
static int freeze_all(bool freeze)
{
	cleanup_close int fd = open(CGROUP_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : cgroup_freeze(fd, freeze);
}

static bool all_frozen(void)
{
	cleanup_close int fd = open(CGROUP_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && cgroup_frozen(fd);
}

static void go_on(struct agent *agent)
{
	loop_disarm(&agent->loop, &agent->park.timer);
	agent->park.parked = agent->park.frozen = false;
	agent->park.reply = NULL;
	each_stream(agent, stream_watch);
	(void)freeze_all(false);
}

static void give_up(struct agent *agent, const char *why, const struct process *process)
{
	struct reply *reply = agent->park.reply;
	struct error error;

	if (process)
		error_set(&error, KIND_STATE, "cannot park the machine: the output of process \"%s\" of container \"%s\" %s", process->id,
			  process->container->id, why);
	else
		error_set(&error, KIND_STATE, "cannot park the machine: %s", why);
	go_on(agent);
	reply_error(reply, &error);
	processes_lost(agent);
}

/* What has left the machine reaches the host, and does so before the answer: a link keeps the order. */
static void look(struct loop *loop, struct timer *timer)
{
	struct agent *agent = container_of(container_of(timer, struct park, timer), struct agent, park);
	struct park *park = &agent->park;
	bool frozen = all_frozen();
	struct process *process = frozen ? unread(agent) : NULL;
	struct reply *reply = park->reply;

	if (frozen && !park->frozen)
		park->deadline_ms = now_ms() + READ_MS;
	park->frozen = frozen;

	if (frozen && !process) {
		park->reply = NULL;
		reply_ok(reply, NULL);
	} else if (now_ms() < park->deadline_ms) {
		loop_arm(loop, timer, LOOK_MS, look);
	} else {
		give_up(agent, frozen ? "is not read" : "processes hang in the kernel", process);
	}
}

int agent_park(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	int result;

	(void)args;
	if (agent->park.parked)
		return error_set(error, KIND_STATE, "the machine is parked already");
	result = freeze_all(true);
	if (result < 0)
		return error_sys(error, -result, "cannot park the machine");
	agent->park = (struct park){ .parked = true, .reply = reply, .deadline_ms = now_ms() + FREEZE_MS };
	each_stream(agent, stream_watch);
	look(&agent->loop, &agent->park.timer);
	return 0;
}

/* A host that never was this machine's: what was there of the other one's is gone. */
static void begin_anew(struct agent *agent, const struct conn *conn, const char *secret)
{
	memcpy(agent->secret, secret, SECRET_LEN);
	processes_disown(agent);
	each_stream(agent, stream_detach);
	conns_close_others(agent, conn);
}

int agent_unpark(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	const char *secret = NULL;

	if (opt_str(args, "secret", &secret, error) < 0)
		return -1;
	if (secret && !secret_valid(secret))
		return node_fail(args, "secret", error, "must be 64 hexadecimal digits");
	if (!agent->park.parked && !secret) {
		reply_ok(reply, NULL);
		return 0;
	}
	if (!agent->park.parked || agent->park.reply)
		return error_set(error, KIND_STATE, "the machine is not parked");
	if (secret)
		begin_anew(agent, reply->conn, secret);
	go_on(agent);
	processes_lost(agent);
	reply_ok(reply, NULL);
	return 0;
}
