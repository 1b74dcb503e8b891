/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runv-monitor: the host process that holds the standard streams of one process of a container for as long as it lives, whoever wanted it started
 * (docs/streams.md). It runs the command that makes the process, keeps its log, serves who attaches, and leaves a file that says how it ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "monitor_clients.h"
#include "monitor_command.h"
#include "monitor_folder.h"
#include "monitor_log.h"
#include "monitor_options.h"
#include "monitor_stdio.h"
#include "monitor_text.h"
#include "resident.h"

enum {
	FD_FOLDER = RESIDENT_FD,
	FD_STATUS, /* where the outcome of the command is told */
	DRAIN_MS = 3000, /* how long somebody else who holds the streams of an ended process may be silent */
	ORPHAN_MS = 10000, /* how long the output of an ended process waits for the one who was to attach */
	LINGER_MS = 10000, /* how long the monitor waits for clients that do not read the end */
	STATUS_ROOM = 1024 + TEXT_JSON_FACTOR * COMMAND_SAID_MAX, /* less than a pipe takes at once */
	CODE_UNUSED = 125, /* the monitor itself has failed */
};

struct monitor {
	struct options options;
	struct loop loop;
	struct watch signals;
	struct timer patience; /* what is waited for depends on how far it has come */
	int console; /* listening socket for the terminal; -1 */
	pid_t pid; /* of the process; 0: not yet */
	bool taken; /* the folder is ours */
	bool ended, orphaned, cut, told, done;
	int status; /* raw, once ended */
	struct timespec end_time;
	size_t queued; /* when clients were last looked at in the end */
	char exit[FOLDER_EXIT_MAX];
	struct command command;
	struct stdio stdio;
	struct clients clients;
	struct log log;
};

/* The state of the log as members of a JSON object. */
static size_t log_state(const struct monitor *monitor, char *text, size_t size)
{
	const struct log *log = &monitor->log;
	bool complete = log->lost == 0 && !monitor->cut && !monitor->orphaned;
	int len = snprintf(text, size, "{\"complete\":%s,\"lost\":%llu,\"error\":\"%s\"}", complete ? "true" : "false",
			   (unsigned long long)log->lost, log->error < 0 ? strerror(-log->error) : "");

	return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}

/* What the starter is told, who may be gone. Then it is told no more. */
static void report(struct monitor *monitor, const char *member, long value, const char *error)
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

/* The stdio of the process, to clients and log */

static void on_output(struct stdio *stdio, int number, const uint8_t *data, size_t len)
{
	struct monitor *monitor = container_of(stdio, struct monitor, stdio);

	log_write(&monitor->log, number, data, len);
	clients_output(&monitor->clients, number == 0 ? FRAME_STDOUT : FRAME_STDERR, data, len);
	/* What still comes of an ended process puts the end off. */
	loop_disarm(&monitor->loop, &monitor->patience);
}

static void on_input_taken(struct stdio *stdio)
{
	clients_resume(&container_of(stdio, struct monitor, stdio)->clients);
}

static const struct stdio_ops stdio_ops = { .output = on_output, .input_taken = on_input_taken };

static bool input_ready(struct clients *clients)
{
	return stdio_input_ready(&container_of(clients, struct monitor, clients)->stdio);
}

static void on_input(struct clients *clients, const uint8_t *data, size_t len)
{
	struct monitor *monitor = container_of(clients, struct monitor, clients);

	if (monitor->options.input)
		stdio_input(&monitor->stdio, data, len);
}

static void on_input_end(struct clients *clients)
{
	struct monitor *monitor = container_of(clients, struct monitor, clients);

	if (monitor->options.input_once)
		stdio_input_end(&monitor->stdio);
}

static void on_resize(struct clients *clients, unsigned int rows, unsigned int columns)
{
	/* Without a terminal it has no meaning, and whoever resizes need not know. */
	(void)stdio_resize(&container_of(clients, struct monitor, clients)->stdio, rows, columns);
}

static int on_reopen(struct clients *clients)
{
	return log_reopen(&container_of(clients, struct monitor, clients)->log);
}

static size_t on_status(struct clients *clients, char *text, size_t size)
{
	struct monitor *monitor = container_of(clients, struct monitor, clients);
	int len = snprintf(text, size, "{\"pid\":%d,\"log\":", (int)monitor->pid);
	size_t at = (size_t)len;

	at += log_state(monitor, text + at, size - at - 1);
	text[at++] = '}';
	return at;
}

static const struct clients_ops clients_ops = {
	.input_ready = input_ready,
	.input = on_input,
	.input_end = on_input_end,
	.resize = on_resize,
	.reopen = on_reopen,
	.status = on_status,
};

/* What is of no use without a monitor. Before anybody is told that it has failed, so that the folder says the same. */
static void leave_folder(struct monitor *monitor)
{
	static const char *const ours[] = { "attach.sock", "console.sock", "command.pid", "monitor.pid", ".exit" };

	for (size_t i = 0; monitor->taken && i < sizeof(ours) / sizeof(*ours); i++)
		unlinkat(FD_FOLDER, ours[i], 0);
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
		leave_folder(monitor);
		report(monitor, "code", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), NULL);
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
		leave_folder(monitor);
	report(monitor, failed == NULL ? "pid" : "errno", failed == NULL ? monitor->pid : error, failed);
	monitor->done = failed != NULL;
}

/* Children: the command first, for until it has ended nobody knows which of the others the process is. */
static void reap(struct monitor *monitor)
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

static void signals_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct monitor *monitor = container_of(watch, struct monitor, signals);
	struct signalfd_siginfo info;

	(void)loop;
	(void)events;
	if (read(watch->fd, &info, sizeof(info)) != sizeof(info))
		return;
	/* A monitor ends with its process; before there is one it can be told to give up. */
	if (info.ssi_signo == SIGTERM && monitor->command.pid > 0)
		kill(monitor->command.pid, SIGTERM);
	reap(monitor);
}

/* The end */

static void tell_end(struct monitor *monitor)
{
	char when[TEXT_TIME_ROOM], log[FOLDER_EXIT_MAX / 2];
	int code = WIFEXITED(monitor->status) ? WEXITSTATUS(monitor->status) : 128 + WTERMSIG(monitor->status), len, ret;

	log_end(&monitor->log);
	log_close(&monitor->log);
	text_time(when, &monitor->end_time);
	log_state(monitor, log, sizeof(log));
	len = snprintf(monitor->exit, sizeof(monitor->exit), "{\"code\":%d,\"signal\":%d,\"finished\":\"%s\",\"log\":%s}", code,
		       WIFSIGNALED(monitor->status) ? WTERMSIG(monitor->status) : 0, when, log);
	ret = folder_write_exit(FD_FOLDER, monitor->exit, (size_t)len);
	(void)ret; /* Those who are attached are told in any case. */
	unlinkat(FD_FOLDER, "attach.sock", 0);
	clients_end(&monitor->clients, monitor->exit);
	monitor->told = true;
}

static bool is_held(const struct monitor *monitor, enum frame stream)
{
	if (monitor->options.hold && !monitor->clients.attached && !monitor->orphaned)
		return true;
	return clients_hold(&monitor->clients, stream);
}

static void lost_patience(struct loop *loop, struct timer *timer)
{
	struct monitor *monitor = container_of(timer, struct monitor, patience);
	size_t queued = clients_queued(&monitor->clients);

	(void)loop;
	if (monitor->told) {
		monitor->done = queued == monitor->queued;
		monitor->queued = queued;
	} else if (monitor->options.hold && !monitor->clients.attached) {
		monitor->orphaned = true;
	} else if (!is_held(monitor, FRAME_STDOUT) && !is_held(monitor, FRAME_STDERR)) {
		monitor->cut = true;
	}
}

/* After each pass of the loop. */
static void look(struct monitor *monitor)
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

static int monitor_run(struct monitor *monitor)
{
	int ret = 0;

	while (ret == 0 && !monitor->done) {
		ret = loop_once(&monitor->loop, -1);
		clients_sweep(&monitor->clients);
		look(monitor);
		clients_sweep(&monitor->clients);
	}
	return ret;
}

/* The beginning */

static int signals_open(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static const char *start_files(struct monitor *monitor, int *error)
{
	const struct options *options = &monitor->options;

	*error = folder_take(FD_FOLDER);
	if (*error < 0)
		return *error == -EWOULDBLOCK ? "the folder is another monitor's" : "cannot use the folder";
	monitor->taken = true;
	*error = folder_reserve_exit(FD_FOLDER);
	if (*error < 0)
		return "cannot make room for the exit status";
	monitor->log.format = options->log_format;
	monitor->log.path = options->log_path;
	monitor->log.max_size = options->log_size;
	monitor->log.max_files = options->log_files;
	*error = log_open(&monitor->log);
	return *error < 0 ? "cannot open the log" : NULL;
}

static const char *start_sockets(struct monitor *monitor, int *error)
{
	const struct options *options = &monitor->options;
	uint8_t offers = (uint8_t)((options->input ? ATTACHED_STDIN : 0) | (options->terminal ? ATTACHED_TERMINAL : 0));
	int fd = folder_listen(FD_FOLDER, "attach.sock");

	*error = fd < 0 ? fd : clients_start(&monitor->clients, &monitor->loop, &clients_ops, offers, fd);
	if (*error < 0)
		return "cannot listen on attach.sock";
	if (!options->terminal)
		return NULL;
	monitor->console = folder_listen(FD_FOLDER, "console.sock");
	*error = monitor->console < 0 ? monitor->console : 0;
	return *error < 0 ? "cannot listen on console.sock" : NULL;
}

static const char *monitor_start(struct monitor *monitor, int *error)
{
	const struct options *options = &monitor->options;
	const char *failed;
	int fd;

	*error = loop_init(&monitor->loop);
	if (*error < 0)
		return "epoll";
	fd = signals_open();
	*error = fd < 0 ? fd : loop_add(&monitor->loop, &monitor->signals, fd, EPOLLIN, signals_event);
	if (*error < 0)
		return "signals";
	failed = start_files(monitor, error);
	if (failed == NULL)
		failed = start_sockets(monitor, error);
	if (failed != NULL)
		return failed;
	*error = folder_write_identity(FD_FOLDER, "monitor.pid", getpid());
	if (*error < 0)
		return "cannot write monitor.pid";
	*error = command_start(&monitor->command, &monitor->loop, options->command, options->terminal, options->input,
			       options->terminal || !options->exec);
	if (*error < 0)
		return "cannot run the command";
	/* Without it the command cannot be found by who would end it, but does its work. */
	(void)folder_write_identity(FD_FOLDER, "command.pid", monitor->command.pid);
	return NULL;
}

static void monitor_fini(struct monitor *monitor)
{
	clients_fini(&monitor->clients);
	stdio_fini(&monitor->stdio);
	command_fini(&monitor->command);
	log_close(&monitor->log);
	loop_fini(&monitor->loop);
	leave_folder(monitor);
}

/* In the process that stays. */
static int monitor_main(struct monitor *monitor, int folder, int status_fd)
{
	const char *failed = "cannot detach";
	int error = resident_detach((const int[]){ folder, status_fd }, 2);

	prctl(PR_SET_NAME, "runv-monitor");
	/* So that all of it can be let go of, however far it has come. */
	monitor->console = monitor->log.fd = monitor->command.in_fd = monitor->command.fds[0] = monitor->command.fds[1] = -1;
	monitor->clients.loop = &monitor->loop;
	stdio_init(&monitor->stdio, &monitor->loop, &stdio_ops);
	if (error == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0)
		failed = monitor_start(monitor, &error);
	if (failed != NULL) {
		leave_folder(monitor);
		report(monitor, "errno", error, failed);
		monitor_fini(monitor);
		return CODE_UNUSED;
	}
	error = monitor_run(monitor);
	monitor_fini(monitor);
	return error < 0 ? CODE_UNUSED : 0;
}

int main(int argc, char **argv)
{
	struct options options;
	struct monitor *monitor;
	pid_t pid;
	int fd, ret = 0;

	if (!options_parse(&options, argc, argv)) {
		fputs("usage: runv-monitor --dir FOLDER --status-fd N [--terminal] [--stdin | --stdin-once] [--exec | --hold]\n"
		      "           [--log-format none|json-file|cri --log-path PATH [--log-max-size BYTES] [--log-max-files N]] [--label TEXT] -- COMMAND...\n",
		      stderr);
		return 2;
	}
	fd = open(options.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	monitor = calloc(1, sizeof(*monitor));
	pid = fd < 0 || monitor == NULL ? -1 : fork();
	if (pid < 0) {
		fprintf(stderr, "cannot monitor in %s: %s\n", options.folder, strerror(errno));
		return CODE_UNUSED;
	}
	if (pid == 0) {
		monitor->options = options;
		ret = monitor_main(monitor, fd, options.status_fd);
	}
	free(monitor);
	return ret;
}
