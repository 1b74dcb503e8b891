/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runv-monitor: the host process that holds the standard streams of one process of a container for as long as it lives, whoever wanted it started
 * (docs/streams.md). It runs the command that makes the process, keeps its log, serves who attaches, and leaves a file that says how it ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "monitor.h"

enum { CODE_UNUSED = 125 /* the monitor itself has failed */ };

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
	monitor_reap(monitor);
}

static int monitor_run(struct monitor *monitor)
{
	int ret = 0;

	while (ret == 0 && !monitor->done) {
		ret = loop_once(&monitor->loop, -1);
		clients_sweep(&monitor->clients);
		monitor_look(monitor);
		clients_sweep(&monitor->clients);
	}
	return ret;
}

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

	*error = fd < 0 ? fd : clients_start(&monitor->clients, &monitor->loop, &monitor_clients_ops, offers, fd);
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
	monitor_leave_folder(monitor);
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
	stdio_init(&monitor->stdio, &monitor->loop, &monitor_stdio_ops);
	if (error == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0)
		failed = monitor_start(monitor, &error);
	if (failed != NULL) {
		monitor_leave_folder(monitor);
		monitor_report(monitor, "errno", error, failed);
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
