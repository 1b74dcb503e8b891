/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"
#include "monitor_text.h"

enum {
	DRAIN_MS = 3000, /* how long somebody else who holds the streams of an ended process may be silent, and how long it waits for a client's reading */
	ORPHAN_MS = 10000, /* how long the output of an ended process waits for the one who was to attach */
	LINGER_MS = 600000, /* how long clients that read nothing may take for the end, when everybody else has been told */
	STATUS_ROOM = 1024 + TEXT_JSON_FACTOR * COMMAND_SAID_MAX, /* less than a pipe takes at once */
};

void monitor_report(struct monitor *monitor, const char *member, long value, const char *error)
{
	char text[STATUS_ROOM];
	int len = error == NULL ? snprintf(text, sizeof(text), "{\"%s\":%ld,\"stderr\":\"", member, value) :
				  snprintf(text, sizeof(text), "{\"%s\":%ld,\"error\":\"%s: %s\",\"stderr\":\"", member, value, error,
					   strerror((int)-value));
	char *at = text + (len < 0 ? 0 : len);

	at += text_json(at, (const uint8_t *)monitor->command.said, monitor->command.said_len);
	at = stpcpy(at, "\"}\n");
	(void)!write(FD_STATUS, text, (size_t)(at - text));
	close(FD_STATUS);
	monitor->command.said_len = 0;
}

void monitor_leave_folder(struct monitor *monitor)
{
	static const char *const ours[] = { "attach.sock", "console.sock", "command.pid", "monitor.pid", ".exit" };

	for (size_t i = 0; monitor->taken && i < sizeof(ours) / sizeof(*ours); i++)
		unlinkat(FD_FOLDER, ours[i], 0);
	if (monitor->taken)
		flock(FD_FOLDER, LOCK_UN);
	monitor->taken = false;
}

/* From the command to the process */

/* NULL, or what failed; *error is -errno then. */
static const char *take_streams(struct monitor *monitor, int *error)
{
	struct command *command = &monitor->command;
	int in = command->in_fd, out = command->fds[0], err = command->fds[1];

	if (monitor->options.terminal) {
		int master = folder_receive(monitor->console);

		*error = master < 0 ? master : stdio_start_terminal(&monitor->stdio, master);
		return *error < 0 ? "cannot receive the terminal" : NULL;
	}
	command->in_fd = command->fds[0] = command->fds[1] = -1;
	*error = stdio_start_pipes(&monitor->stdio, in, out, err);
	return *error < 0 ? "cannot read the streams" : NULL;
}

static const char *take_process(struct monitor *monitor, int *error)
{
	siginfo_t info;
	pid_t pid = folder_read_pid(FD_FOLDER, "pid");

	*error = pid < 0 ? pid : 0;
	if (pid < 0)
		return "cannot read the pid file";
	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
		*error = -errno;
		return "cannot wait for the process";
	}
	*error = folder_write_identity(FD_FOLDER, "process.pid", pid);
	if (*error < 0)
		return "cannot write process.pid";
	monitor->pid = pid;
	return NULL;
}

static void command_done(struct monitor *monitor, int status)
{
	bool worked = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	const char *failed;
	int error;

	unlinkat(FD_FOLDER, "command.pid", 0);
	command_ended(&monitor->command, !worked || monitor->options.terminal || !monitor->options.exec);
	if (!worked) {
		monitor_leave_folder(monitor);
		monitor_report(monitor, "code", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), NULL);
		monitor->done = true;
		return;
	}
	failed = take_process(monitor, &error);
	if (failed == NULL)
		failed = take_streams(monitor, &error);
	command_fini(&monitor->command);
	if (monitor->console >= 0)
		close(monitor->console);
	monitor->console = -1;
	unlinkat(FD_FOLDER, "console.sock", 0);
	if (failed != NULL)
		monitor_leave_folder(monitor);
	monitor_report(monitor, failed == NULL ? "pid" : "errno", failed == NULL ? monitor->pid : error, failed);
	monitor->done = failed != NULL;
}

/* Children: the command first, for until it has ended nobody knows which of the others the process is. */
void monitor_reap(struct monitor *monitor)
{
	int status;
	pid_t pid;

	if (monitor->command.pid > 0) {
		if (waitpid(monitor->command.pid, &status, WNOHANG) != monitor->command.pid)
			return;
		command_done(monitor, status);
	}
	while (!monitor->done && (pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != monitor->pid || monitor->ended)
			continue;
		monitor->ended = true;
		monitor->status = status;
		clock_gettime(CLOCK_REALTIME, &monitor->end_time);
		stdio_process_ended(&monitor->stdio);
	}
}

/* The end */

static void tell_end(struct monitor *monitor)
{
	char when[TEXT_TIME_ROOM], log[FOLDER_EXIT_MAX / 2];
	int code = WIFEXITED(monitor->status) ? WEXITSTATUS(monitor->status) : 128 + WTERMSIG(monitor->status), len, ret;

	/* Whoever else has its ends may still be talking. */
	stdio_fini(&monitor->stdio);
	log_end(&monitor->log);
	log_close(&monitor->log);
	text_time(when, &monitor->end_time);
	monitor_log_state(monitor, log, sizeof(log));
	len = snprintf(monitor->exit, sizeof(monitor->exit), "{\"code\":%d,\"signal\":%d,\"finished\":\"%s\",\"log\":%s}", code,
		       WIFSIGNALED(monitor->status) ? WTERMSIG(monitor->status) : 0, when, log);
	ret = folder_write_exit(FD_FOLDER, monitor->exit, (size_t)len);
	(void)ret; /* Those who are attached are told in any case. */
	/* The next monitor may have it, whoever is still reading here. */
	monitor_leave_folder(monitor);
	clients_end(&monitor->clients, monitor->exit);
	monitor->told = true;
}

static bool is_held(const struct monitor *monitor, enum frame stream)
{
	if (monitor->options.hold && !monitor->clients.attached && !monitor->orphaned)
		return true;
	return !monitor->impatient && clients_hold(&monitor->clients, stream);
}

static void lost_patience(struct loop *loop, struct timer *timer)
{
	struct monitor *monitor = container_of(timer, struct monitor, patience);
	size_t queued = clients_queued(&monitor->clients);

	(void)loop;
	if (monitor->told)
		monitor->done = queued == monitor->queued;
	else if (monitor->options.hold && !monitor->clients.attached)
		monitor->orphaned = true;
	else if (!is_held(monitor, FRAME_STDOUT) && !is_held(monitor, FRAME_STDERR))
		monitor->cut = true;
	else
		/* What is left in pipes fits into its queue. */
		monitor->impatient = queued == monitor->queued;
	monitor->queued = queued;
}

void monitor_look(struct monitor *monitor)
{
	int64_t delay;

	stdio_hold(&monitor->stdio, 0, is_held(monitor, FRAME_STDOUT));
	stdio_hold(&monitor->stdio, 1, is_held(monitor, FRAME_STDERR));
	if (!monitor->ended)
		return;
	if (!monitor->told && (monitor->cut || stdio_drained(&monitor->stdio))) {
		loop_disarm(&monitor->loop, &monitor->patience);
		tell_end(monitor);
	}
	if (monitor->told && monitor->clients.count == 0)
		monitor->done = true;
	if (monitor->patience.due_ms != 0)
		return;
	delay = monitor->told ? LINGER_MS : monitor->options.hold && !monitor->clients.attached && !monitor->orphaned ? ORPHAN_MS : DRAIN_MS;
	loop_arm(&monitor->loop, &monitor->patience, delay, lost_patience);
}
