/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runv-standin: the host process that stands for one process of a container, and whose pid engines watch. It owns the guest process (which is killed
 * when the control connection ends), holds its standard streams, passes signals and window sizes on, and ends as it ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "standin_control.h"
#include "standin_copy.h"
#include "standin_execs.h"
#include "standin_links.h"
#include "standin_oom.h"

enum {
	FD_CONFIG = 3, /* where the configuration socket is moved to, so that all others can be closed */
	EXIT_UNUSED = 125,
	SIGNAL_SET = 8, /* bytes of the kernel's */
	CONFIG_MAX = 8192,
	CONNECTIONS_MAX = 4,
	FDS_MAX = CONNECTIONS_MAX + LINKS_HOME_FDS,
	OOM_PAUSE_MS = 1000, /* a guest may not make the host's kernel write its log full */
};

enum terminal { TERMINAL_NONE, TERMINAL_PTY, TERMINAL_FOREGROUND };

/* In the order of enum terminal: what the configuration calls it, and how many descriptors come with it. */
static const struct {
	const char *name;
	size_t fds;
} terminals[] = { { "none", 4 }, { "pty", 3 }, { "foreground", 2 } };

struct config {
	json_t *root; /* owns the names */
	const char *container, *process;
	const char *memory; /* the host's memory cgroup of the container; NULL: it is not to hear of out-of-memory kills */
	const char *execs; /* a folder of pid files; those processes end before this one. NULL: nobody has to */
	enum terminal terminal;
	json_t *sync; /* what brings changed links to the guest; its namespaces are the last of fds. NULL: nothing does */
	int fds[FDS_MAX];
	size_t fd_count;
};

struct standin {
	struct loop loop;
	struct watch signals;
	struct control control;
	struct config config;
	struct links links;
	int64_t next_oom_ms; /* before that, an out-of-memory kill is not shown: one just was */
	bool impatient; /* told to end while output of the ended process waits for its reader */
	struct copier copier;
};

/* As the kernel does it: libc's functions spare two signals for its threads. */
static int mask_signals(int how, uint64_t set)
{
	return syscall(SYS_rt_sigprocmask, how, &set, NULL, SIGNAL_SET) < 0 ? -errno : 0;
}

static int signals_fd(void)
{
	uint64_t all = ~(uint64_t)0;
	int fd = (int)syscall(SYS_signalfd4, -1, &all, SIGNAL_SET, SFD_CLOEXEC | SFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* Here too: libc refuses to touch those two, and a caller's posix_spawn may have left them ignored. */
static int default_action(int number)
{
	/* handler (SIG_DFL is 0), flags, restorer, mask */
	const uint64_t action[4] = { 0 };

	return syscall(SYS_rt_sigaction, number, action, NULL, SIGNAL_SET) < 0 ? -errno : 0;
}

/* Ends by the signal the guest process ended by, so that whoever waits for this one is told the same. */
static _Noreturn void die_by(int number)
{
	struct rlimit none = { 0 };

	/* A dump of this process is of no use to anybody. */
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	default_action(number);
	kill(getpid(), number);
	mask_signals(SIG_UNBLOCK, (uint64_t)1 << (number - 1));
	/* Not one that ends a process by itself. */
	_exit(128 + number);
}

static _Noreturn void end(const struct standin *standin)
{
	struct status status = standin->control.status;

	if (standin->config.execs != NULL) {
		/* Had only this connection been lost, it is what makes the guest end the others. */
		close(standin->control.fd);
		execs_wait(standin->config.execs);
	}
	if (status.kind == STATUS_EXIT)
		_exit(status.value);
	die_by(status.kind == STATUS_SIGNAL ? status.value : SIGKILL);
}

static void send_size(struct standin *standin)
{
	unsigned rows, columns;

	if (copier_size(&standin->copier, &rows, &columns))
		control_resize(&standin->control, &standin->loop, rows, columns);
}

/* Signals that the kernel sends because of the terminal. True: dealt with. */
static bool terminal_signal(struct standin *standin, int number, int code)
{
	if (standin->config.terminal == TERMINAL_NONE)
		return false;
	if (number == SIGWINCH) {
		send_size(standin);
		return true;
	}
	if (number == SIGCONT)
		copier_resume(&standin->copier);
	if (code != SI_KERNEL || (number != SIGHUP && number != SIGCONT))
		return false;
	if (number == SIGHUP)
		copier_hangup(&standin->copier);
	return true;
}

static void handle_signal(struct standin *standin, int number, int code)
{
	switch (number) {
	case SIGCHLD:
		links_reap(&standin->links, &standin->loop);
		return;
	case SIGPIPE:
	case SIGTTIN:
	case SIGTTOU:
		return; /* about this process, not meant for the other */
	}
	if (terminal_signal(standin, number, code))
		return;
	if (standin->control.status.kind == STATUS_NONE)
		control_signal(&standin->control, &standin->loop, number);
	else if (number == SIGTERM || number == SIGINT || number == SIGQUIT || number == SIGHUP)
		standin->impatient = true;
}

static void signals_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct standin *standin = container_of(watch, struct standin, signals);
	struct signalfd_siginfo info;

	(void)loop;
	(void)events;
	if (read(watch->fd, &info, sizeof(info)) == sizeof(info))
		handle_signal(standin, (int)info.ssi_signo, info.ssi_code);
}

static void show_oom(struct standin *standin)
{
	if (standin->control.oom && standin->config.memory != NULL && now_ms() >= standin->next_oom_ms) {
		oom_show(standin->config.memory);
		standin->next_oom_ms = now_ms() + OOM_PAUSE_MS;
	}
	standin->control.oom = false;
}

static int standin_run(struct standin *standin)
{
	struct status *status = &standin->control.status;
	bool again = true;
	int ret = 0;

	while (ret == 0) {
		ret = loop_once(&standin->loop, again ? 0 : -1);
		/* What cannot be passed on yet waits in the kernel. */
		loop_change(&standin->loop, &standin->signals, control_may_ask(&standin->control) ? EPOLLIN : 0);
		again = copier_run(&standin->copier);
		show_oom(standin);
		if (status->kind == STATUS_LOST)
			end(standin);
		if (status->kind != STATUS_NONE && (copier_drained(&standin->copier) || standin->impatient))
			end(standin);
	}
	return ret;
}

/* The message of the creator with its descriptors. 0: the creator is gone. */
static ssize_t receive(char *text, struct config *config)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(config->fds))];
	} control;
	struct iovec iov = { .iov_base = text, .iov_len = CONFIG_MAX };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space) };
	struct pollfd pfd = { .fd = FD_CONFIG, .events = POLLIN };
	struct cmsghdr *header;
	ssize_t n;

	/* It may have been made non-blocking. */
	poll(&pfd, 1, -1);
	n = recvmsg(FD_CONFIG, &msg, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	header = CMSG_FIRSTHDR(&msg);
	if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
		config->fd_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(config->fds, CMSG_DATA(header), config->fd_count * sizeof(int));
	}
	return msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EMSGSIZE : n;
}

/* NULL, or what is wrong. */
static const char *parse(struct config *config, const char *text, size_t len)
{
	const char *terminal;

	config->root = json_loadb(text, len, 0, NULL);
	if (config->root == NULL || json_unpack(config->root, "{s:s, s:s, s:s, s?s, s?s, s?o}", "container", &config->container,
						"process", &config->process, "terminal", &terminal, "memory", &config->memory, "execs",
						&config->execs, "sync", &config->sync) < 0)
		return "container, process or terminal is missing";
	for (size_t i = 0; i < sizeof(terminals) / sizeof(*terminals); i++) {
		if (strcmp(terminals[i].name, terminal) != 0)
			continue;
		config->terminal = (enum terminal)i;
		return config->fd_count == terminals[i].fds + (config->sync ? LINKS_HOME_FDS : 0) ? NULL : "wrong number of descriptors";
	}
	return "unknown kind of terminal";
}

static int use_null(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -errno;
	if (null == fd)
		return 0;
	if (dup3(null, fd, O_CLOEXEC) < 0)
		return -errno;
	close(null);
	return 0;
}

/* Makes the pty the controlling terminal, for its hangup and its SIGWINCH; the guest's own terminal does the line discipline. */
static int take_terminal(int slave)
{
	struct termios termios;

	if (ioctl(slave, TIOCSCTTY, 0) < 0 || tcgetattr(slave, &termios) < 0)
		return -errno;
	cfmakeraw(&termios);
	if (tcsetattr(slave, TCSANOW, &termios) < 0 || dup3(slave, STDIN_FILENO, O_CLOEXEC) < 0)
		return -errno;
	close(slave);
	return 0;
}

/* NULL, or what failed; *error is -errno then. */
static const char *start_copying(struct standin *standin, int *error)
{
	const struct config *config = &standin->config;

	if (config->terminal == TERMINAL_NONE) {
		*error = copier_start_streams(&standin->copier, &standin->loop, config->fds + 1);
		return *error < 0 ? "streams" : NULL;
	}
	if (config->terminal == TERMINAL_PTY && (*error = take_terminal(config->fds[2])) < 0)
		return "terminal";
	*error = use_null(STDOUT_FILENO);
	if (*error == 0)
		*error = use_null(STDERR_FILENO);
	if (*error < 0)
		return "/dev/null";
	*error = copier_start_terminal(&standin->copier, &standin->loop, config->fds[1], STDIN_FILENO);
	return *error < 0 ? "terminal" : NULL;
}

static int watch_links(struct standin *standin)
{
	const struct config *config = &standin->config;
	const json_t *word;
	size_t i;

	if (json_array_size(config->sync) > LINKS_ARGS_MAX)
		return -E2BIG;
	json_array_foreach(config->sync, i, word) {
		standin->links.argv[i] = json_string_value(word);
	}
	if (config->sync)
		memcpy(standin->links.home, config->fds + config->fd_count - LINKS_HOME_FDS, sizeof(standin->links.home));
	return links_start(&standin->links, &standin->loop);
}

static const char *standin_start(struct standin *standin, int *error)
{
	const struct config *config = &standin->config;
	const char *failed;
	int fd;

	*error = loop_init(&standin->loop);
	if (*error < 0)
		return "epoll";
	failed = start_copying(standin, error);
	if (failed != NULL)
		return failed;
	fd = signals_fd();
	*error = fd < 0 ? fd : loop_add(&standin->loop, &standin->signals, fd, EPOLLIN, signals_event);
	if (*error < 0)
		return "signals";
	*error = watch_links(standin);
	if (*error < 0)
		return "links";
	*error = control_start(&standin->control, &standin->loop, config->fds[0], config->container, config->process);
	if (*error == 0 && config->memory != NULL)
		control_watch_oom(&standin->control, &standin->loop);
	return *error < 0 ? "control connection" : NULL;
}

/* Tells the creator, who may have gone meanwhile. */
static void answer(const char *failed, int error)
{
	char text[256];
	int len;

	if (failed == NULL)
		len = snprintf(text, sizeof(text), "{\"ok\":true}");
	else if (error == 0)
		len = snprintf(text, sizeof(text), "{\"error\":\"%s\"}", failed);
	else
		len = snprintf(text, sizeof(text), "{\"error\":\"%s: %s\"}", failed, strerror(-error));
	send(FD_CONFIG, text, (size_t)len, MSG_NOSIGNAL);
	close(FD_CONFIG);
}

/* Only the standard descriptors and the configuration stay. A standard one that is closed is filled, lest another takes its number. */
static int close_others(int config_fd)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && use_null(fd) < 0)
			return -errno;
	if (config_fd != FD_CONFIG && dup3(config_fd, FD_CONFIG, O_CLOEXEC) < 0)
		return -errno;
	return close_range(FD_CONFIG + 1, ~0U, 0) < 0 || chdir("/") < 0 ? -errno : 0;
}

static int standin_main(int config_fd, int network_fd)
{
	struct standin standin = { .loop.epfd = -1 };
	char text[CONFIG_MAX];
	const char *failed;
	ssize_t n;
	int error = network_fd >= 0 && setns(network_fd, CLONE_NEWNET) < 0 ? -errno : 0;

	if (close_others(config_fd) < 0)
		return EXIT_UNUSED;
	n = receive(text, &standin.config);
	if (n == 0)
		return EXIT_UNUSED;
	failed = error < 0 ? "network namespace" : n < 0 ? "cannot receive the configuration" : parse(&standin.config, text, (size_t)n);
	if (failed == NULL)
		failed = standin_start(&standin, &error);
	else if (n < 0 && error == 0)
		error = (int)n;
	if (failed == NULL)
		send_size(&standin);
	answer(failed, error);
	if (failed == NULL)
		standin_run(&standin);
	control_fini(&standin.control);
	json_decref(standin.config.root);
	return EXIT_UNUSED;
}

static int fd_argument(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	return *text == '\0' || *end != '\0' || value < 0 || value > INT16_MAX || fcntl((int)value, F_GETFD) < 0 ? -1 : (int)value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config-fd", required_argument, NULL, 'c' },
		{ "network-fd", required_argument, NULL, 'w' }, /* the network namespace to join */
		{ "label", required_argument, NULL, 'n' }, /* for those who read ps */
		{ 0 },
	};
	int config_fd = -1, network_fd = -1, option;

	mask_signals(SIG_SETMASK, ~(uint64_t)0);
	prctl(PR_SET_NAME, "runv-standin");
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'c')
			config_fd = fd_argument(optarg);
		else if (option == 'w')
			network_fd = fd_argument(optarg);
		else if (option != 'n')
			return 2;
	}
	if (config_fd < 0 || optind != argc) {
		fputs("usage: runv-standin --config-fd N [--network-fd N] [--label TEXT]\n", stderr);
		return 2;
	}
	return standin_main(config_fd, network_fd);
}
