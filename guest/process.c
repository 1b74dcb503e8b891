/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "conn.h"
#include "container.h"
#include "rlimits.h"
#include "spawn.h"

static const char *const stdio_names[PROCESS_STREAMS] = { "stdin", "stdout", "stderr" };

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

static void drop_sync(struct process *process)
{
	int fd = process->sync.fd;

	loop_del(&process->container->agent->loop, &process->sync);
	if (fd >= 0)
		close(fd);
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
	drop_sync(process);
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

static bool is_init(const struct process *process)
{
	return strcmp(process->id, "init") == 0;
}

void process_stream_done(struct process *process)
{
	struct container *container = process->container;

	if (!process_busy(process)) {
		answer_waiters(process);
		if (process->owned && !is_init(process))
			process_forget(process);
	}
	if (container->dying)
		container_progress(container);
}

/* Applies what only PID 1 may: a container with a user namespace of its own has no power over these. */
static int apply_limits(struct process *process, struct error *error)
{
	struct node spec = { .json = process->spec, .name = "process" };

	return rlimits_apply(process->pid, &spec, error);
}

static void child_ready(struct process *process, int terminal)
{
	bool expected = json_is_true(json_object_get(process->spec, "terminal"));

	if (process->failed || process->state != PROCESS_PREPARING || expected != (terminal >= 0)) {
		if (terminal >= 0)
			close(terminal);
		return;
	}
	if (terminal >= 0)
		stream_init(&process->streams[0], process, "tty", terminal);
	if (apply_limits(process, &process->failure) < 0) {
		process->failed = true;
		kill(process->pid, SIGKILL);
		return;
	}
	json_decref(process->spec);
	process->spec = NULL;
	process->state = PROCESS_READY;
	if (process->made)
		reply_ok(process->made, json_pack("{s:i}", "pid", (int)process->pid));
	process->made = NULL;
}

/* The descriptor that came with a message; others, which the child never sends, are closed. */
static int received_fd(struct msghdr *message)
{
	int taken = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (taken < 0)
				taken = fd;
			else
				close(fd);
		}
	}
	return taken;
}

static void child_said(struct process *process, struct child_message *message, size_t len, int fd)
{
	if (message->word == CHILD_READY) {
		child_ready(process, fd);
		return;
	}
	if (fd >= 0)
		close(fd);
	if (message->word != CHILD_ERROR || process->failed || len <= offsetof(struct child_message, error.text))
		return;
	message->error.text[ERROR_TEXT_MAX - 1] = '\0';
	process->failure = message->error;
	process->failed = true;
}

/* Reads one message; false: there is none now, or no more will come. */
static bool read_sync(struct process *process)
{
	struct child_message message;
	char control[CMSG_SPACE(4 * sizeof(int))];
	struct iovec iov = { .iov_base = &message, .iov_len = sizeof(message) };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t n;

	if (process->sync.fd < 0)
		return false;
	memset(&message, 0, sizeof(message));
	n = recvmsg(process->sync.fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n > 0) {
		child_said(process, &message, (size_t)n, received_fd(&header));
		return true;
	}
	drop_sync(process);
	/* execve has closed it, unless the child has told of a failure before. */
	if (process->state == PROCESS_STARTING && !process->failed) {
		process->state = PROCESS_RUNNING;
		if (process->started)
			reply_ok(process->started, NULL);
		process->started = NULL;
	}
	return false;
}

static void sync_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	(void)loop;
	(void)events;
	read_sync(container_of(watch, struct process, sync));
}

static void explain_death(struct process *process)
{
	const char *oom = process->oom ? ", out of memory: the limit may be too low" : "";

	if (process->failed)
		return;
	process->failed = true;
	if (WIFSIGNALED(process->status))
		error_set(&process->failure, KIND_FAILED, "the process was killed by signal %d while it was set up%s",
			  WTERMSIG(process->status), oom);
	else
		error_set(&process->failure, KIND_FAILED, "the process ended with status %d while it was set up", WEXITSTATUS(process->status));
	/* The protocol promises an errno with this kind. */
	process->failure.errnum = ECHILD;
}

/* Answers who waits for the making of a process that has failed; a container's, when nothing of it is left. Both may be gone afterwards. */
static void making_failed(struct process *process)
{
	struct container *container = process->container;

	explain_death(process);
	if (!is_init(process)) {
		if (process->made)
			reply_error(process->made, &process->failure);
		process->made = NULL;
		process_forget(process);
		if (container->dying)
			container_progress(container);
		return;
	}
	container->failed = process->made;
	container->failure = process->failure;
	process->made = NULL;
	container_take_down(container);
	container_progress(container);
}

void process_ended(struct process *process, int status)
{
	bool making;

	while (read_sync(process))
		;
	drop_sync(process);
	process->status = status;
	process->oom = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && container_new_oom_kills(process->container) > 0;
	making = process->state == PROCESS_PREPARING;
	if (process->started) {
		explain_death(process);
		reply_error(process->started, &process->failure);
		process->started = NULL;
	}
	/* The state changes last: a stream that ends meanwhile must not take that for the end of all. */
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		stream_end(&process->streams[i]);
	process->state = PROCESS_EXITED;
	if (making)
		making_failed(process);
	else
		process_stream_done(process);
}

void process_conn_gone(struct process *process, const struct conn *conn)
{
	if (process->owner != conn)
		return;
	process->owner = NULL;
	if (process->state != PROCESS_EXITED && is_init(process))
		container_kill(process->container);
	else if (process->state != PROCESS_EXITED)
		kill(process->pid, SIGKILL);
	else if (!is_init(process))
		process_forget(process);
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

static int make_pipes(struct process *process, struct spawn *spawn, struct error *error)
{
	for (int i = 0; i < PROCESS_STREAMS; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) < 0)
			return error_sys(error, errno, "cannot make a pipe for %s", stdio_names[i]);
		spawn->stdio[i] = ends[i == 0 ? 0 : 1];
		stream_init(&process->streams[i], process, stdio_names[i], ends[i == 0 ? 1 : 0]);
	}
	return 0;
}

static int make_child(struct process *process, struct spawn *spawn, struct error *error)
{
	struct loop *loop = &process->container->agent->loop;
	int pair[2], result;

	if (!spawn->terminal && make_pipes(process, spawn, error) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_sys(error, errno, "cannot make a socket pair");
	result = loop_add(loop, &process->sync, pair[0], EPOLLIN, sync_event);
	if (result < 0) {
		close(pair[0]);
		close(pair[1]);
		return error_sys(error, -result, "cannot watch a socket");
	}
	spawn->sync = pair[1];
	process->pid = spawn_clone(spawn, error);
	if (process->pid < 0)
		return -1;
	if (spawn_release(spawn, process->pid, pair[0], error) == 0)
		return 0;
	/* It is nobody's from here: the reaper takes it. */
	kill(process->pid, SIGKILL);
	return -1;
}

int process_spawn(struct container *container, const char *id, const struct node *spec, struct spawn *spawn, struct reply *made,
		  struct error *error)
{
	struct process *process;
	int result;

	if (container->agent->process_count >= PROCESSES_MAX)
		return error_set(error, KIND_BUSY, "there are %d processes already", PROCESSES_MAX);
	process = calloc(1, sizeof(*process));
	if (!process)
		return error_sys(error, ENOMEM, "cannot make process \"%s\"", id);
	strcpy(process->id, id);
	process->container = container;
	process->sync.fd = -1;
	process->spec = json_incref((json_t *)(uintptr_t)spec->json);
	process->next = container->processes;
	container->processes = process;
	container->agent->process_count++;

	spawn->sync = spawn->proc_fd = -1;
	spawn->stdio[0] = spawn->stdio[1] = spawn->stdio[2] = -1;
	result = make_child(process, spawn, error);
	for (int i = 0; i < PROCESS_STREAMS; i++)
		cleanup_closep(&spawn->stdio[i]);
	cleanup_closep(&spawn->sync);
	if (result < 0) {
		process_forget(process);
		return -1;
	}
	process->made = made;
	return 0;
}
