/* SPDX-License-Identifier: Apache-2.0 */
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "container.h"
#include "outward.h"
#include "power.h"

/*
 * Every child is waited for here and nowhere else, but for those that spawn.c waits for at once. Orphans of containers end up with PID 1 as well;
 * nobody asks for their status.
 */
static void reap(struct agent *agent)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct process *process = containers_find_pid(agent, pid);

		if (process)
			process_ended(process, status);
		else if (!outward_reaped(agent, pid))
			power_child_ended(agent, pid);
	}
}

static void readable(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct agent *agent = container_of(watch, struct agent, signals);
	struct signalfd_siginfo info;

	(void)loop;
	(void)events;
	while (read(watch->fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			power_off(agent);
	}
	/* Signals of one number are merged: one may stand for many children. */
	reap(agent);
}

int signals_init(struct agent *agent, struct error *error)
{
	sigset_t all, wanted;
	int fd, result;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	/* Done here once, it need not be done in each child. */
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	/* A write to a pipe whose reader has gone is an error to be handled, also in between. */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGINT);
	sigaddset(&wanted, SIGTERM);
	sigaddset(&wanted, SIGPWR);
	fd = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return error_sys(error, errno, "cannot make a signalfd");
	result = loop_add(&agent->loop, &agent->signals, fd, EPOLLIN, readable);
	return result < 0 ? error_sys(error, -result, "cannot watch the signals") : 0;
}
