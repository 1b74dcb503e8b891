/* SPDX-License-Identifier: Apache-2.0 */
/* The child of spawn: from the clone to execve. Whatever fails here is told to PID 1, which tells the host. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "affinity.h"
#include "archive.h"
#include "cleanup.h"
#include "container.h"
#include "hooks.h"
#include "identity.h"
#include "pause.h"
#include "rlimits.h"
#include "namespaces.h"
#include "program.h"
#include "rootfs.h"
#include "sched_attr.h"
#include "seccomp.h"
#include "spawn.h"

struct child {
	struct spawn *spawn;
	struct node oci, linux_node; /* the container's, also for a further process */
	int tty_master, tty_slave;
	int proc_fd; /* the guest's /proc */
	struct identity identity;
	struct program program;
	struct seccomp_program seccomp;
	bool pauses; /* instead of a program */
	struct archive archive; /* likewise */
};

_Noreturn void child_fail(int sync, const struct error *error)
{
	struct child_message message = { .word = CHILD_ERROR, .error = *error };
	size_t len = offsetof(struct child_message, error.text) + strlen(error->text) + 1;

	(void)!send(sync, &message, len, MSG_NOSIGNAL);
	/* As a shell would, for who only asks for the status */
	_exit(error->errnum == ENOENT ? 127 : 126);
}

static int send_ready(int sync, int terminal)
{
	char word = CHILD_READY, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = &word, .iov_len = 1 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (terminal >= 0) {
		struct cmsghdr *c;

		header.msg_control = control;
		header.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&header);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &terminal, sizeof(int));
	}
	return sendmsg(sync, &header, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

static void await(int sync, char expected)
{
	char word;
	ssize_t n;

	do
		n = recv(sync, &word, 1, 0);
	while (n < 0 && errno == EINTR);
	/* PID 1 has given up on us. */
	if (n != 1 || word != expected)
		_exit(1);
}

/*
 * PID 1's descriptors: a copy of a pipe or connection here would keep its other end from ever seeing its end, and what the program must not
 * have it must not find in our /proc/self/fd either.
 */
static void close_others(const struct spawn *spawn)
{
	int keep[] = { spawn->sync, spawn->stdio[0], spawn->stdio[1], spawn->stdio[2], spawn->proc_fd, spawn->upper_fd };
	/* The first three are replaced by the program's, and must not be free before: nothing else may get their numbers. */
	unsigned int next = 3;

	for (;;) {
		int lowest = -1;

		for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
			if (keep[i] >= 0 && (unsigned int)keep[i] >= next && (lowest < 0 || keep[i] < lowest))
				lowest = keep[i];
		}
		if (lowest < 0)
			break;
		if ((unsigned int)lowest > next)
			close_range(next, (unsigned int)lowest - 1, 0);
		next = (unsigned int)lowest + 1;
	}
	close_range(next, ~0U, 0);
}

/* PID 1 handles none, and ignores one. */
static void reset_signals(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In a container's user namespace PID 1's user is nobody; its own root takes over. */
static int become_root(const struct spawn *spawn, struct error *error)
{
	if (!(spawn->container->namespaces & CLONE_NEWUSER))
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_sys(error, errno, "cannot become root of the user namespace");
	/* A change of ids resets it. */
	prctl(PR_SET_DUMPABLE, 0);
	return 0;
}

static int enter_new_container(struct child *child, struct error *error)
{
	struct spawn *spawn = child->spawn;
	struct rootfs rootfs = { .spawn = spawn, .oci = &child->oci, .linux_node = &child->linux_node, .root_fd = -1,
				 .proc_fd = child->proc_fd, .tty_master = -1, .tty_slave = -1 };

	if (namespaces_late(spawn, &child->linux_node, error) < 0 || become_root(spawn, error) < 0 ||
	    namespaces_names(spawn->container, &child->oci, error) < 0)
		return -1;
	/* In another container's mount namespace that one's root is ours. */
	if (!(spawn->new_namespaces & CLONE_NEWNS)) {
		rootfs.root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		return !spawn->terminal ? 0 : terminal_open(rootfs.root_fd, spawn->process, &child->tty_master, &child->tty_slave, error);
	}
	if (rootfs_setup(&rootfs, error) < 0)
		return -1;
	child->tty_master = rootfs.tty_master;
	child->tty_slave = rootfs.tty_slave;
	return 0;
}

static int enter_container(struct child *child, struct error *error)
{
	int root_fd;

	if (child->spawn->oci)
		return enter_new_container(child, error);
	if (affinity_apply(child->spawn->process, error) < 0 || become_root(child->spawn, error) < 0)
		return -1;
	if (!child->spawn->terminal)
		return 0;
	root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return terminal_open(root_fd, child->spawn->process, &child->tty_master, &child->tty_slave, error);
}

static int set_stdio(struct child *child, struct error *error)
{
	struct spawn *spawn = child->spawn;
	struct stat st;

	if (setsid() < 0 && errno != EPERM)
		return error_sys(error, errno, "cannot make a session");
	if (spawn->terminal && terminal_adopt(child->tty_slave, error) < 0)
		return -1;
	/* None of the sources is below 3, see make_child. */
	for (int i = 0; i < 3; i++) {
		if (dup2(spawn->terminal ? child->tty_slave : spawn->stdio[i], i) < 0)
			return error_sys(error, errno, "cannot set up the standard streams");
		/* So that the program can open /dev/stdout again. In a user namespace the pipes are not ours to give; then they just stay root's. */
		if (fstat(i, &st) < 0 || st.st_uid != child->identity.uid)
			(void)!fchown(i, child->identity.uid, (gid_t)-1);
	}
	return 0;
}

static int set_profile(const struct child *child, struct error *error)
{
	const char *apparmor = "", *selinux = "";
	cleanup_close int fd = -1;

	if (opt_str(child->spawn->process, "apparmorProfile", &apparmor, error) < 0 ||
	    opt_str(child->spawn->process, "selinuxLabel", &selinux, error) < 0)
		return -1;
	if (*selinux)
		return error_set(error, KIND_UNSUPPORTED, "selinuxLabel is set, but the guest has no SELinux");
	if (!*apparmor || strcmp(apparmor, "unconfined") == 0)
		return 0;
	fd = openat(child->proc_fd, "self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && dprintf(fd, "exec %s", apparmor) > 0)
		return 0;
	/* Without the words of the errno, which an engine would take for a missing program */
	if (errno == ENOENT)
		return error_set(error, KIND_UNSUPPORTED, "the guest has no AppArmor profile \"%.128s\"", apparmor);
	return error_sys(error, errno, "cannot apply AppArmor profile %s", apparmor);
}

/* The directory may be one only root may enter, or only the user: both are tried. */
static int enter_cwd(const struct child *child, bool last, struct error *error)
{
	const char *cwd = "/";
	char real[PATH_MAX];

	if (opt_str(child->spawn->process, "cwd", &cwd, error) < 0)
		return -1;
	if (*cwd != '/')
		return node_fail(child->spawn->process, "cwd", error, "must be an absolute path");
	if (chdir(cwd) < 0) {
		if (!last && (errno == EACCES || errno == EPERM))
			return 1;
		return error_sys(error, errno, "chdir to cwd (\"%.512s\") set in config.json failed", cwd);
	}
	/* By a descriptor that leaked, a path below /proc/self/fd could lead out of the container. */
	if (!getcwd(real, sizeof(real)) || real[0] != '/')
		return error_set(error, KIND_INVALID, "the working directory is outside of the container");
	return 0;
}

/*
 * After this only the standard streams, the socket to PID 1, the terminal's master and what an archive is to be of are open; later also the program. Above
 * all no directory of the guest is, by which a path below /proc/self/fd could lead a program out of the container.
 */
static int close_rest(struct child *child, struct error *error)
{
	int *kept[3] = { &child->spawn->sync, &child->tty_master, &child->spawn->upper_fd };

	for (int i = 0; i < 3; i++) {
		if (*kept[i] < 0)
			continue;
		*kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, 16);
		if (*kept[i] < 0)
			return error_sys(error, errno, "cannot move a descriptor");
	}
	close_range(3, 15, 0);
	for (int i = 0; i < 3; i++) {
		if (*kept[i] >= 0 && dup3(*kept[i], 3 + i, O_CLOEXEC) < 0)
			return error_sys(error, errno, "cannot move a descriptor");
		*kept[i] = *kept[i] >= 0 ? 3 + i : -1;
	}
	close_range(6, ~0U, 0);
	child->proc_fd = child->tty_slave = -1;
	return 0;
}

static int prepare(struct child *child, struct error *error)
{
	struct spawn *spawn = child->spawn;
	int cwd;

	/* A further process of such a container would have a program, which is not there. */
	if (spawn->oci ? opt_bool(&child->oci, "pause", &child->pauses, error) < 0 : archive_parse(spawn->process, &child->archive, error) < 0)
		return -1;
	if (opt_object(&child->oci, "linux", &child->linux_node, error) < 0 || identity_parse(spawn->process, &child->identity, error) < 0 ||
	    enter_container(child, error) < 0 || set_stdio(child, error) < 0 || set_profile(child, error) < 0 ||
	    sched_apply(spawn->process, &child->linux_node, error) < 0 || program_parse(spawn->process, child->identity.uid, &child->program, error) < 0 ||
	    seccomp_build(&child->linux_node, &child->seccomp, error) < 0)
		return -1;
	if (close_rest(child, error) < 0)
		return -1;
	cwd = enter_cwd(child, false, error);
	if (cwd < 0 || identity_assume(spawn->process, &child->identity, error) < 0)
		return -1;
	if (cwd > 0 && enter_cwd(child, true, error) < 0)
		return -1;
	return child->pauses || child->archive.kind != ARCHIVE_NONE ? 0 : program_lookup(&child->program, error);
}

static int run(struct child *child, struct error *error)
{
	const struct hook_runner runner = { .identity = &child->identity, .seccomp = &child->seccomp, .env = child->program.env };
	const char word = CHILD_EXEC;

	program_hold(&child->program);
	/* Only a container's first process has them. */
	if (child->spawn->oci && hooks_run(&child->oci, &runner, error) < 0)
		return -1;
	/* Before the filter, which may refuse it */
	(void)!send(child->spawn->sync, &word, 1, MSG_NOSIGNAL);
	if (child->archive.kind != ARCHIVE_NONE) {
		close(child->spawn->sync);
		archive_main(&child->archive, &child->oci, child->spawn->upper_fd);
	}
	if (identity_unseal(&child->identity, error) < 0 || seccomp_install(&child->seccomp, error) < 0 ||
	    identity_seal(&child->identity, error) < 0)
		return -1;
	if (child->pauses)
		pause_main();
	execve(child->program.path, child->program.args, child->program.env);
	return error_sys(error, errno, "exec %s", child->program.path);
}

_Noreturn void child_main(struct spawn *spawn)
{
	struct child child = {
		.spawn = spawn,
		.oci = { .json = spawn->container->oci, .name = "oci" },
		.tty_master = -1,
		.tty_slave = -1,
		.proc_fd = spawn->proc_fd,
		.program = { .held_fd = -1 },
	};
	struct error error;

	reset_signals();
	/* Who is in the container already must not be able to look into our memory or at our descriptors. */
	prctl(PR_SET_DUMPABLE, 0);
	close_others(spawn);
	rlimits_reset();
	if (spawn->waits)
		await(spawn->sync, PARENT_GO);
	if (child.proc_fd < 0)
		child.proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (prepare(&child, &error) < 0)
		child_fail(spawn->sync, &error);
	if (send_ready(spawn->sync, child.tty_master) < 0)
		_exit(1);
	cleanup_closep(&child.tty_master);
	await(spawn->sync, PARENT_START);
	run(&child, &error);
	child_fail(spawn->sync, &error);
}
