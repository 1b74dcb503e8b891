/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conn.h"
#include "container.h"
#include "making.h"
#include "spawn.h"

struct process *process_get(struct container *container, const char *id)
{
	struct process *process = container->processes;

	while (process && strcmp(process->id, id) != 0)
		process = process->next;
	return process;
}

struct process *process_find(struct agent *agent, const char *container, const char *id, struct error *error)
{
	struct container *found = container_find(agent, container, error);
	struct process *process = found ? process_get(found, id) : NULL;

	if (found && !process)
		error_set(error, KIND_NOT_FOUND, "process \"%.*s\" of container \"%s\" does not exist", ID_MAX, id, found->id);
	return process;
}

void process_kill(const struct process *process)
{
	if (process->state == PROCESS_EXITED)
		return;
	/* Not known yet, the child is on its way into its cgroup, or sees that the other end of its socket is gone. */
	if (process->helper > 0)
		kill(process->helper, SIGKILL);
	if (process->pid > 0)
		kill(process->pid, SIGKILL);
}

static void answer_waiters(struct process *process)
{
	while (process->waiters) {
		struct waiter *waiter = process->waiters;
		json_t *result;

		if (WIFSIGNALED(process->status))
			result = json_pack("{s:i}", "signal", WTERMSIG(process->status));
		else
			result = json_pack("{s:i}", "exit", WEXITSTATUS(process->status));
		if (result && process->oom)
			json_object_set_new(result, "oom", json_true());
		process->waiters = waiter->next;
		reply_ok(waiter->reply, result);
		free(waiter);
	}
}

void process_forget(struct process *process)
{
	struct container *container = process->container;

	for (struct process **link = &container->processes; *link; link = &(*link)->next) {
		if (*link == process) {
			*link = process->next;
			break;
		}
	}
	container->agent->process_count--;
	answer_waiters(process);
	making_drop(process);
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		stream_close(&process->streams[i]);
	json_decref(process->spec);
	free(process);
}

bool process_busy(const struct process *process)
{
	if (process->state != PROCESS_EXITED)
		return true;
	for (size_t i = 0; i < PROCESS_STREAMS; i++) {
		if (stream_busy(&process->streams[i]))
			return true;
	}
	return false;
}

bool process_is_init(const struct process *process)
{
	return strcmp(process->id, "init") == 0;
}

/* Tells who waits for it, if all of it is over. It may be gone afterwards. */
static void settle(struct process *process)
{
	if (process_busy(process))
		return;
	answer_waiters(process);
	if (process->owned && !process_is_init(process))
		process_forget(process);
}

void process_stream_done(struct process *process)
{
	struct container *container = process->container;

	settle(process);
	if (container->dying)
		container_progress(container);
}

void process_ended(struct process *process, int status)
{
	bool making;

	making_hear(process);
	process->status = status;
	process->oom = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && oom_new_kills(process->container) > 0;
	making = process->state == PROCESS_PREPARING;
	if (process->started) {
		making_explain(process);
		reply_error(process->started, &process->failure);
		process->started = NULL;
	}
	/* The state changes last: a stream that ends meanwhile must not take that for the end of all. */
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		stream_end(&process->streams[i]);
	process->state = PROCESS_EXITED;
	/* Before its end is told: who hears of that may stop listening. */
	oom_tell(process->container);
	if (making)
		making_failed(process);
	else
		process_stream_done(process);
}

/* Its owner has gone. The process may be gone afterwards. */
static void lose(struct process *process)
{
	if (process->state != PROCESS_EXITED && process_is_init(process))
		container_kill(process->container);
	else if (process->state != PROCESS_EXITED)
		process_kill(process);
	else if (!process_is_init(process))
		process_forget(process);
}

void process_conn_gone(struct process *process, const struct conn *conn)
{
	if (process->owner != conn)
		return;
	process->owner = NULL;
	if (process->container->agent->park.parked)
		process->lost = true;
	else
		lose(process);
}

void processes_lost(struct agent *agent)
{
	for (struct container *c = agent->containers; c; c = c->next) {
		struct process *next;

		for (struct process *p = c->processes; p; p = next) {
			next = p->next;
			if (p->lost) {
				p->lost = false;
				lose(p);
			} else {
				/* Of its streams some may have gone meanwhile. A container that is dying goes on by its timer. */
				settle(p);
			}
		}
	}
}

void processes_disown(struct agent *agent)
{
	for (struct container *c = agent->containers; c; c = c->next) {
		for (struct process *p = c->processes; p; p = p->next) {
			p->owner = NULL;
			p->owned = p->lost = !process_is_init(p);
		}
	}
}

int process_start(struct process *process, struct reply *reply, struct error *error)
{
	char word = PARENT_START;

	if (process->state == PROCESS_PREPARING)
		return error_set(error, KIND_STATE, "process \"%s\" is still being created", process->id);
	if (process->state == PROCESS_EXITED)
		return error_set(error, KIND_STATE, "process already finished");
	if (process->state != PROCESS_READY)
		return error_set(error, KIND_STATE, "process \"%s\" was started already", process->id);
	if (send(process->sync.fd, &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return error_sys(error, errno, "cannot start process \"%s\"", process->id);
	process->state = PROCESS_STARTING;
	process->started = reply;
	return 0;
}

int process_wait(struct process *process, bool owner, struct reply *reply, struct error *error)
{
	struct waiter *waiter, **link = &process->waiters;

	if (owner && process->owned)
		return error_set(error, KIND_EXISTS, "process \"%s\" has an owner already", process->id);
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		return error_sys(error, ENOMEM, "cannot wait for process \"%s\"", process->id);
	waiter->reply = reply;
	while (*link)
		link = &(*link)->next;
	*link = waiter;
	if (owner) {
		process->owned = true;
		process->owner = reply->conn;
	}
	process_stream_done(process);
	return 0;
}

int process_signal(struct process *process, int signal, struct error *error)
{
	if (process->state == PROCESS_EXITED)
		return error_set(error, KIND_STATE, "process already finished");
	if (kill(process->pid, signal) < 0)
		return error_sys(error, errno, "cannot send signal %d to process \"%s\"", signal, process->id);
	return 0;
}

int process_resize(struct process *process, unsigned short rows, unsigned short columns, struct error *error)
{
	struct winsize size = { .ws_row = rows, .ws_col = columns };
	struct stream *tty = &process->streams[0];

	if (process->state == PROCESS_EXITED)
		return error_set(error, KIND_STATE, "process already finished");
	if (!tty->process || !tty->tty || tty->local_fd < 0)
		return error_set(error, KIND_STATE, "process \"%s\" has no terminal", process->id);
	if (ioctl(tty->local_fd, TIOCSWINSZ, &size) < 0)
		return error_sys(error, errno, "cannot resize the terminal of process \"%s\"", process->id);
	return 0;
}
