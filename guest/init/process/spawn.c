/* SPDX-License-Identifier: Apache-2.0 */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "id_maps.h"
#include "container.h"

/* These two are the child's own work: the cgroup namespace begins at the cgroup one is in, and a time namespace must get its offsets first. */
static const unsigned int LATE_NAMESPACES = CLONE_NEWCGROUP | CLONE_NEWTIME;

static pid_t clone3(struct spawn *spawn, uint64_t flags)
{
	struct clone_args args = {
		.flags = flags | (spawn->new_namespaces & ~LATE_NAMESPACES),
		/* With CLONE_PARENT the exit signal is the caller's. */
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
	};
	pid_t pid;

	/* Somebody in between has to tell PID 1 of the child first; ids are PID 1's to map. */
	spawn->waits = flags & CLONE_PARENT || spawn->new_namespaces & CLONE_NEWUSER;
	if (spawn->cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)spawn->cgroup_fd;
		spawn->in_cgroup = true;
		pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
		if (pid >= 0 || errno == ENOMEM || errno == EAGAIN)
			return pid;
		/* Some hosts of the tests refuse it; there PID 1 moves the child before letting it go on. */
		args.flags &= ~(uint64_t)CLONE_INTO_CGROUP;
		args.cgroup = 0;
		spawn->in_cgroup = false;
		spawn->waits = true;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* What the process in between tells PID 1 */
struct spawn_verdict {
	pid_t pid;
	int errnum;
	bool in_cgroup;
	bool joining; /* the error is of setns */
};

static bool join(struct spawn *spawn)
{
	for (size_t i = 0; i < spawn->join_count; i++) {
		if (setns(spawn->join_fd[i], (int)spawn->join_flags[i]) < 0)
			return false;
	}
	return true;
}

/*
 * Runs in a process of its own, which joins the namespaces and makes the child as its sibling. PID 1 itself never enters another namespace,
 * so nothing has to be undone where the kernel refuses half of it.
 */
static _Noreturn void go_between(struct spawn *spawn, int pipe_fd)
{
	struct spawn_verdict verdict = { .pid = -1 };

	/* Who is in those namespaces already must not be able to look into our memory or at our descriptors. */
	prctl(PR_SET_DUMPABLE, 0);
	spawn->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!join(spawn)) {
		verdict.errnum = errno;
		verdict.joining = true;
	} else {
		verdict.pid = clone3(spawn, CLONE_PARENT);
		if (verdict.pid == 0)
			child_main(spawn);
		verdict.errnum = errno;
		verdict.in_cgroup = spawn->in_cgroup;
	}
	_exit(write(pipe_fd, &verdict, sizeof(verdict)) == sizeof(verdict) ? 0 : 1);
}

/*
 * PID 1 does not wait for the verdict here: entering a mount namespace asks the file system of its root whether that is still valid, and if it is
 * a share its server may never answer.
 */
static pid_t clone_joined(struct spawn *spawn, struct error *error)
{
	int ends[2];
	pid_t helper;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_sys(error, errno, "cannot make a pipe");
	helper = fork();
	if (helper == 0)
		go_between(spawn, ends[1]);
	close(ends[1]);
	if (helper < 0) {
		close(ends[0]);
		return error_sys(error, errno, "cannot fork");
	}
	spawn->verdict_fd = ends[0];
	return helper;
}

pid_t spawn_verdict(struct spawn *spawn, int fd, struct error *error)
{
	struct spawn_verdict verdict;

	if (read(fd, &verdict, sizeof(verdict)) != sizeof(verdict))
		return error_sys(error, ECHILD, "cannot join the namespaces of the container: the helper died");
	if (verdict.pid < 0)
		return error_sys(error, verdict.errnum, verdict.joining ? "cannot join the namespaces of the container" : "cannot make a process");
	/* As nobody knew it, it was nobody's when it was reaped. */
	if (kill(verdict.pid, 0) < 0)
		return error_sys(error, ECHILD, "the process was killed while it was set up");
	spawn->in_cgroup = verdict.in_cgroup;
	return verdict.pid;
}

pid_t spawn_clone(struct spawn *spawn, struct error *error)
{
	pid_t pid;

	spawn->verdict_fd = -1;
	if (spawn->join_count > 0)
		return clone_joined(spawn, error);
	pid = clone3(spawn, 0);
	if (pid == 0)
		child_main(spawn);
	if (pid < 0)
		return error_sys(error, errno, "cannot make a process");
	return pid;
}

static int write_file(int dir_fd, const char *path, const char *text)
{
	cleanup_close int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) >= 0 ? 0 : -1;
}

int spawn_release(struct spawn *spawn, pid_t pid, int sync, struct error *error)
{
	struct node linux_node;
	char text[32], word = PARENT_GO;

	if (spawn->cgroup_fd >= 0 && !spawn->in_cgroup) {
		snprintf(text, sizeof(text), "%d", (int)pid);
		if (write_file(spawn->cgroup_fd, "cgroup.procs", text) < 0)
			return error_sys(error, errno, "cannot move the process into its cgroup");
	}
	if (spawn->new_namespaces & CLONE_NEWUSER) {
		struct node oci = { .json = spawn->container->oci, .name = "oci" };
		cleanup_close int proc = -1;

		snprintf(text, sizeof(text), "/proc/%d", (int)pid);
		proc = open(text, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (proc < 0)
			return error_sys(error, errno, "cannot open %s", text);
		if (opt_object(&oci, "linux", &linux_node, error) < 0 || id_maps_write(&linux_node, proc, error) < 0)
			return -1;
	}
	if (!spawn->waits)
		return 0;
	if (send(sync, &word, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return error_sys(error, errno, "cannot let the process go on");
	return 0;
}
