/* SPDX-License-Identifier: Apache-2.0 */
#include "id_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"

enum { MAPPINGS_MAX = 340 }; /* the kernel's own limit */

static int map_ids(const struct node *object, const char *member, int proc_fd, const char *file, struct error *error)
{
	char text[4096];
	cleanup_close int fd = -1;
	struct node list, entry;
	size_t used = 0;

	if (opt_array(object, member, &list, error) < 0)
		return -1;
	if (array_len(&list) == 0 || array_len(&list) > MAPPINGS_MAX)
		return node_fail(object, member, error, "must have 1 to 340 entries for a new user namespace");
	for (size_t i = 0; i < array_len(&list); i++) {
		int64_t inside, outside, size;

		if (array_object(&list, i, &entry, error) < 0 || get_int(&entry, "containerID", 0, UINT32_MAX, &inside, error) < 0 ||
		    get_int(&entry, "hostID", 0, UINT32_MAX, &outside, error) < 0 || get_int(&entry, "size", 1, UINT32_MAX, &size, error) < 0)
			return -1;
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%lld %lld %lld\n", (long long)inside, (long long)outside, (long long)size);
		/* The kernel takes less than a page. */
		if (used >= sizeof(text) - 1)
			return node_fail(object, member, error, "is too long");
	}
	fd = openat(proc_fd, file, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, used) == (ssize_t)used ? 0 : error_sys(error, errno, "cannot write %s", file);
}

int id_maps_write(const struct node *object, int proc_fd, struct error *error)
{
	return map_ids(object, "uidMappings", proc_fd, "uid_map", error) < 0 || map_ids(object, "gidMappings", proc_fd, "gid_map", error) < 0 ? -1 : 0;
}

/* What a process in a new user namespace opens for us, who have the same descriptors. */
struct opened {
	int proc, namespace;
};

/* It knows its place in /proc, which belongs to another pid namespace than ours, only as "self". */
static _Noreturn void be_inside(int report)
{
	struct opened opened = { -1, -1 };

	if (unshare(CLONE_NEWUSER) == 0) {
		opened.proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
		opened.namespace = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	}
	if (write(report, &opened, sizeof(opened)) != (ssize_t)sizeof(opened))
		_exit(1);
	for (;;)
		pause();
}

int id_maps_namespace(const struct node *object, struct error *error)
{
	struct opened opened = { -1, -1 };
	int report[2], result;
	ssize_t n;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) < 0)
		return error_sys(error, errno, "cannot make a user namespace");
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0);
	if (pid == 0)
		be_inside(report[1]);
	n = pid > 0 ? read(report[0], &opened, sizeof(opened)) : -1;
	close(report[0]);
	close(report[1]);
	if (n != (ssize_t)sizeof(opened) || opened.proc < 0 || opened.namespace < 0)
		result = error_set(error, KIND_FAILED, "cannot make a user namespace for an id-mapped mount");
	else
		result = id_maps_write(object, opened.proc, error);
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	if (opened.proc >= 0)
		close(opened.proc);
	if (result == 0)
		return opened.namespace;
	if (opened.namespace >= 0)
		close(opened.namespace);
	return -1;
}
