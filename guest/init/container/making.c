/* SPDX-License-Identifier: Apache-2.0 */
#include "making.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "conn.h"
#include "container.h"
#include "rlimits.h"
#include "spawn.h"

enum { NEVER_RAN = 126 }; /* the exit status of what did not come to execve, as a shell would say */

static const char *const stdio_names[PROCESS_STREAMS] = { "stdin", "stdout", "stderr" };

static void drop_sync(struct process *process)
{
	int fd = process->sync.fd;

	loop_del(&process->container->agent->loop, &process->sync);
	if (fd >= 0)
		close(fd);
}

static void drop_late(struct process *process)
{
	int fd = process->verdict.fd;

	loop_del(&process->container->agent->loop, &process->verdict);
	if (fd >= 0)
		close(fd);
	if (process->late)
		cleanup_closep(&process->late->cgroup_fd);
	free(process->late);
	process->late = NULL;
	process->helper = 0;
}

void making_drop(struct process *process)
{
	drop_sync(process);
	drop_late(process);
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
	if (apply_limits(process, &process->failure) < 0 ||
	    (process_is_init(process) && container_filter_devices(process->container, &process->failure) < 0)) {
		process->failed = true;
		process_kill(process);
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
	process->executing |= message->word == CHILD_EXEC;
	if (fd >= 0)
		close(fd);
	if (message->word != CHILD_ERROR || process->failed || len <= offsetof(struct child_message, error.text))
		return;
	message->error.text[ERROR_TEXT_MAX - 1] = '\0';
	process->failure = message->error;
	process->failed = true;
}

/* The socket is gone: execve has closed it, unless the child has told of a failure before, or was killed while it ran hooks; then its end says so. */
static void sync_over(struct process *process)
{
	drop_sync(process);
	if (process->state != PROCESS_STARTING || !process->executing || process->failed)
		return;
	process->state = PROCESS_RUNNING;
	if (process->started)
		reply_ok(process->started, NULL);
	process->started = NULL;
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
	sync_over(process);
	return false;
}

static void sync_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	(void)loop;
	(void)events;
	read_sync(container_of(watch, struct process, sync));
}

void making_hear(struct process *process)
{
	while (read_sync(process))
		;
	/* The process in between may be slow to end, and hold a copy of the child's end. */
	sync_over(process);
}

void making_explain(struct process *process)
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
void making_failed(struct process *process)
{
	struct container *container = process->container;

	making_explain(process);
	if (!process_is_init(process)) {
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

/* The making has failed without a child, or with one that is not to live. */
static void never_was(struct process *process)
{
	process_kill(process);
	process->failed = true;
	process->status = NEVER_RAN << 8;
	process->state = PROCESS_EXITED;
	making_failed(process);
}

static void verdict_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct process *process = container_of(watch, struct process, verdict);
	pid_t pid = spawn_verdict(process->late, watch->fd, &process->failure);

	(void)loop;
	(void)events;
	if (pid < 0) {
		never_was(process);
		return;
	}
	process->pid = pid;
	if (process->sync.fd < 0 || spawn_release(process->late, pid, process->sync.fd, &process->failure) < 0)
		never_was(process);
	else
		drop_late(process);
}

/* What spawn points to is the request's, which does not live so long: what is needed later is copied. */
static int await_verdict(struct process *process, struct spawn *spawn, struct error *error)
{
	struct spawn *late = malloc(sizeof(*late));
	int result = -ENOMEM;

	process->helper = process->pid;
	process->pid = 0;
	if (late) {
		*late = (struct spawn){ .container = spawn->container, .new_namespaces = spawn->new_namespaces, .waits = true };
		late->cgroup_fd = fcntl(spawn->cgroup_fd, F_DUPFD_CLOEXEC, 3);
		process->late = late;
		result = loop_add(&process->container->agent->loop, &process->verdict, spawn->verdict_fd, EPOLLIN, verdict_event);
	}
	if (result == 0)
		return 0;
	close(spawn->verdict_fd);
	kill(process->helper, SIGKILL);
	return error_sys(error, -result, "cannot wait for the process");
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
	if (spawn->verdict_fd >= 0)
		return await_verdict(process, spawn, error);
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
	process->sync.fd = process->verdict.fd = -1;
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
