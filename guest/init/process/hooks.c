/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "loop.h"
#include "program.h"

enum { OUTPUT_MAX = 512, EXEC_FAILED = 127 };

struct hook {
	size_t index;
	const char *path;
	char **args, **env;
	int64_t timeout_s; /* 0: none */
};

/* A hook that runs, and our ends of its pipes */
struct running {
	pid_t pid;
	int pidfd, in, out;
	const char *state; /* what it has not read yet */
	size_t left;
	char output[OUTPUT_MAX];
	size_t used;
};

static int parse(const struct node *entry, const struct hook_runner *runner, struct hook *hook, struct error *error)
{
	if (get_str(entry, "path", &hook->path, error) < 0 || opt_int(entry, "timeout", 1, INT_MAX, &hook->timeout_s, error) < 0)
		return -1;
	if (*hook->path != '/')
		return node_fail(entry, "path", error, "must be absolute");
	hook->args = program_strings(entry, "args", 1, error);
	if (!hook->args)
		return -1;
	if (!hook->args[0])
		hook->args[0] = (char *)(uintptr_t)hook->path;
	hook->env = has_member(entry, "env") ? program_strings(entry, "env", 0, error) : runner->env;
	return hook->env ? 0 : -1;
}

static void free_hook(const struct hook *hook, const struct hook_runner *runner)
{
	free(hook->args);
	if (hook->env != runner->env)
		free(hook->env);
}

static _Noreturn void become(const struct hook *hook, const struct hook_runner *runner, int in, int out)
{
	struct error error;

	signal(SIGPIPE, SIG_DFL);
	setsid();
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(EXEC_FAILED);
	if (identity_unseal(runner->identity, &error) == 0 && seccomp_install(runner->seccomp, &error) == 0 &&
	    identity_seal(runner->identity, &error) == 0) {
		execve(hook->path, hook->args, hook->env);
		error_sys(&error, errno, "exec %s", hook->path);
	}
	(void)!write(2, error.text, strlen(error.text));
	_exit(EXEC_FAILED);
}

static int launch(const struct hook *hook, const struct hook_runner *runner, struct running *running, struct error *error)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 };

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || (running->pid = fork()) < 0) {
		error_sys(error, errno, "cannot run startContainer hook #%zu", hook->index);
		cleanup_closep(&in[0]);
		cleanup_closep(&in[1]);
		cleanup_closep(&out[0]);
		cleanup_closep(&out[1]);
		return -1;
	}
	if (running->pid == 0)
		become(hook, runner, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	running->in = in[1];
	running->out = out[0];
	fcntl(running->in, F_SETFL, O_NONBLOCK);
	fcntl(running->out, F_SETFL, O_NONBLOCK);
	running->pidfd = (int)syscall(SYS_pidfd_open, running->pid, 0);
	return 0;
}

static void feed(struct running *running)
{
	ssize_t n = write(running->in, running->state, running->left);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* A hook need not read it. */
	running->left = n < 0 ? 0 : running->left - (size_t)n;
	running->state += n < 0 ? 0 : n;
	if (running->left == 0)
		close(steal_fd(&running->in));
}

/* The first of what it says is kept, and the rest read, so that it does not wait for a reader. */
static void hear(struct running *running)
{
	char scratch[4096];
	ssize_t n;

	while ((n = read(running->out, scratch, sizeof(scratch))) > 0) {
		size_t room = sizeof(running->output) - 1 - running->used, taken = (size_t)n < room ? (size_t)n : room;

		memcpy(running->output + running->used, scratch, taken);
		running->used += taken;
	}
	if (n == 0)
		close(steal_fd(&running->out));
}

/* Until the hook has ended; false: its time is over. What it left running may keep the pipes. */
static bool attend(struct running *running, int64_t deadline_ms)
{
	for (;;) {
		int64_t left = deadline_ms ? deadline_ms - now_ms() : -1;
		struct pollfd fds[3] = {
			{ .fd = running->pidfd, .events = POLLIN },
			{ .fd = running->in, .events = POLLOUT },
			{ .fd = running->out, .events = POLLIN },
		};

		if (deadline_ms && left <= 0)
			return false;
		if (poll(fds, 3, left > INT_MAX ? INT_MAX : (int)left) < 0 && errno != EINTR)
			return false;
		if (fds[1].revents)
			feed(running);
		if (fds[2].revents)
			hear(running);
		if (fds[0].revents)
			return true;
	}
}

static int judge(const struct hook *hook, struct running *running, bool ended, int status, struct error *error)
{
	running->output[running->used] = '\0';
	if (!ended)
		error_set(error, KIND_FAILED, "error running startContainer hook #%zu: %s did not end within %d s", hook->index, hook->path,
			  (int)hook->timeout_s);
	else if (WIFSIGNALED(status))
		error_set(error, KIND_FAILED, "error running startContainer hook #%zu: killed by signal %d, output: %s", hook->index,
			  WTERMSIG(status), running->output);
	else if (WEXITSTATUS(status))
		error_set(error, KIND_FAILED, "error running startContainer hook #%zu: exit status %d, output: %s", hook->index,
			  WEXITSTATUS(status), running->output);
	else
		return 0;
	/* The protocol promises an errno with this kind. */
	error->errnum = ECHILD;
	return -1;
}

static int run_one(const struct hook *hook, const struct hook_runner *runner, const char *state, struct error *error)
{
	struct running running = { .pidfd = -1, .in = -1, .out = -1, .state = state, .left = strlen(state) };
	int status = 0;
	bool ended;

	if (launch(hook, runner, &running, error) < 0)
		return -1;
	ended = running.pidfd >= 0 && attend(&running, hook->timeout_s ? now_ms() + hook->timeout_s * 1000 : 0);
	if (!ended) {
		kill(-running.pid, SIGKILL);
		kill(running.pid, SIGKILL);
	}
	while (waitpid(running.pid, &status, 0) < 0 && errno == EINTR)
		;
	if (running.out >= 0)
		hear(&running);
	cleanup_closep(&running.pidfd);
	cleanup_closep(&running.in);
	cleanup_closep(&running.out);
	return judge(hook, &running, ended, status, error);
}

/* oci.state, with our pid as it is in the container, as runc gives it. */
static char *state_text(const struct node *oci, struct error *error)
{
	struct node state;
	cleanup_json json_t *copy = NULL;
	char *text = NULL;

	if (get_object(oci, "state", &state, error) < 0)
		return NULL;
	copy = json_copy((json_t *)(uintptr_t)state.json);
	if (copy && json_object_set_new(copy, "pid", json_integer(getpid())) == 0)
		text = json_dumps(copy, JSON_COMPACT);
	if (!text)
		error_sys(error, ENOMEM, "cannot write the state for hooks");
	return text;
}

static int run_all(const struct node *list, const struct hook_runner *runner, const char *state, struct error *error)
{
	for (size_t i = 0; i < array_len(list); i++) {
		struct hook hook = { .index = i };
		struct node entry;
		int result;

		if (array_object(list, i, &entry, error) < 0)
			return -1;
		result = parse(&entry, runner, &hook, error);
		if (result == 0)
			result = run_one(&hook, runner, state, error);
		free_hook(&hook, runner);
		if (result < 0)
			return -1;
	}
	return 0;
}

int hooks_run(const struct node *oci, const struct hook_runner *runner, struct error *error)
{
	cleanup_free char *state = NULL;
	struct node hooks, list;
	int result;

	if (opt_object(oci, "hooks", &hooks, error) < 0 || opt_array(&hooks, "startContainer", &list, error) < 0)
		return -1;
	if (array_len(&list) == 0)
		return 0;
	state = state_text(oci, error);
	if (!state)
		return -1;
	/* A hook that does not read its input must not end us. */
	signal(SIGPIPE, SIG_IGN);
	result = run_all(&list, runner, state, error);
	signal(SIGPIPE, SIG_DFL);
	return result;
}
