/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

enum { EXIT_CANNOT_RUN = 127, SAID_READ = 4096 };

static void say(struct command *command, const char *text, size_t len)
{
	size_t kept = COMMAND_SAID_MAX - len;

	if (command->said_len > kept) {
		memmove(command->said, command->said + (command->said_len - kept), kept);
		command->said_len = kept;
	}
	memcpy(command->said + command->said_len, text, len);
	command->said_len += len;
}

/* False: there is nothing to be read, now or any more. */
static bool said_read(struct said *output)
{
	struct command *command = output->command;
	char text[SAID_READ];
	ssize_t n = read(command->fds[output - command->outputs], text, sizeof(text));

	if (n > 0)
		say(command, text, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		loop_del(command->loop, &output->watch);
	return n > 0;
}

static void said_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	(void)loop;
	(void)events;
	said_read(container_of(watch, struct said, watch));
}

static _Noreturn void run(char *const *argv, const int fds[3])
{
	static const int ours[] = { SIGPIPE, SIGHUP, SIGINT, SIGXFSZ };
	sigset_t none;

	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
		signal(ours[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int fd = 0; fd < 3; fd++)
		if (fds[fd] >= 0 && dup2(fds[fd], fd) < 0)
			_exit(EXIT_CANNOT_RUN);
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(EXIT_CANNOT_RUN);
}

static int make_pipe(int *ours, int *theirs, bool input)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ours = fds[input];
	*theirs = fds[!input];
	return fcntl(*ours, F_SETFL, O_NONBLOCK | fcntl(*ours, F_GETFL)) < 0 ? -errno : 0;
}

int command_start(struct command *command, struct loop *loop, char *const *argv, bool terminal, bool input, bool own)
{
	cleanup_close int in = -1, out = -1, err = -1;
	int ret;

	*command = (struct command){ .loop = loop, .in_fd = -1, .fds = { -1, -1 } };
	ret = make_pipe(&command->fds[0], &out, false);
	if (ret == 0 && !terminal)
		ret = make_pipe(&command->fds[1], &err, false);
	if (ret == 0 && input && !terminal)
		ret = make_pipe(&command->in_fd, &in, true);
	for (int i = 0; i < COMMAND_OUTPUTS && ret == 0; i++) {
		command->outputs[i].command = command;
		if (own && command->fds[i] >= 0)
			ret = loop_add(loop, &command->outputs[i].watch, command->fds[i], EPOLLIN, said_event);
	}
	if (ret < 0)
		return ret;
	command->pid = fork();
	if (command->pid == 0)
		run(argv, (const int[]){ in, out, terminal ? out : err });
	ret = command->pid < 0 ? -errno : 0;
	if (ret < 0)
		command->pid = 0;
	return ret;
}

void command_ended(struct command *command, bool all)
{
	command->pid = 0;
	for (int i = 0; i < COMMAND_OUTPUTS; i++) {
		if (all && command->fds[i] >= 0)
			while (said_read(&command->outputs[i]))
				;
		loop_del(command->loop, &command->outputs[i].watch);
	}
}

void command_fini(struct command *command)
{
	for (int i = 0; i < COMMAND_OUTPUTS; i++) {
		loop_del(command->loop, &command->outputs[i].watch);
		if (command->fds[i] >= 0)
			close(command->fds[i]);
		command->fds[i] = -1;
	}
	if (command->in_fd >= 0)
		close(command->in_fd);
	command->in_fd = -1;
}
