/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

enum { DEPTH_MAX = 32 };

static ssize_t read_file(int dir_fd, const char *name, char *text, size_t size)
{
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;

	text[n > 0 ? n : 0] = '\0';
	return n;
}

static int write_file(int dir_fd, const char *name, const char *text)
{
	cleanup_close int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) >= 0 ? 0 : -errno;
}

/*
 * All in one write, because each costs the kernel a grace period of RCU. It takes all of a write or nothing, so after a refusal they are tried one
 * by one; what still cannot be handed down is missed when a container asks for it, and then reported by name.
 */
static void enable_controllers(int dir_fd)
{
	char names[512], all[1024] = "", *rest = names;
	size_t used = 0;

	if (read_file(dir_fd, "cgroup.controllers", names, sizeof(names)) <= 0)
		return;
	for (char *name = strtok_r(names, " \n", &rest); name && used + strlen(name) + 3 < sizeof(all); name = strtok_r(NULL, " \n", &rest))
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s+%s", used ? " " : "", name);
	if (!used || write_file(dir_fd, "cgroup.subtree_control", all) == 0)
		return;
	for (char *word = strtok_r(all, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		(void)write_file(dir_fd, "cgroup.subtree_control", word);
}

int cgroup_init(struct error *error)
{
	cleanup_close int root = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int parent = -1;

	if (root < 0)
		return error_sys(error, errno, "cannot open " CGROUP_ROOT);
	enable_controllers(root);
	if (mkdirat(root, "runv", 0755) < 0 && errno != EEXIST)
		return error_sys(error, errno, "cannot create " CGROUP_PARENT);
	parent = openat(root, "runv", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return error_sys(error, errno, "cannot open " CGROUP_PARENT);
	enable_controllers(parent);
	return cgroup_create(CGROUP_SPARE, error);
}

int cgroup_create(const char *id, struct error *error)
{
	char path[sizeof(CGROUP_PARENT) + 160];
	int fd;

	snprintf(path, sizeof(path), CGROUP_PARENT "/%s", id);
	if (mkdir(path, 0755) < 0)
		return error_sys(error, errno, "cannot create cgroup %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		error_sys(error, errno, "cannot open cgroup %s", path);
		rmdir(path);
	}
	return fd;
}

int cgroup_open_below(int cgroup_fd, const char *path, struct error *error)
{
	char part[256];
	int fd = fcntl(cgroup_fd, F_DUPFD_CLOEXEC, 0);

	while (fd >= 0 && *path) {
		size_t len = strcspn(path, "/");
		int next;

		if (len >= sizeof(part) || (len == 2 && strncmp(path, "..", 2) == 0)) {
			close(fd);
			return error_set(error, KIND_INVALID, "cgroup must be a path below the container's");
		}
		memcpy(part, path, len);
		part[len] = '\0';
		path += len + (path[len] == '/');
		if (len == 0)
			continue;
		next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	return fd >= 0 ? fd : error_sys(error, errno, "cannot open the container's cgroup");
}

/* The path of a process's cgroup below that of the container: "" where it is in that itself, or somewhere else. */
static void path_below(const char *id, pid_t pid, char *path, size_t size)
{
	char file[64], text[4096], prefix[160];
	int n = snprintf(prefix, sizeof(prefix), "0::/runv/%s/", id);

	path[0] = '\0';
	snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
	if (read_file(AT_FDCWD, file, text, sizeof(text)) <= 0 || strncmp(text, prefix, (size_t)n) != 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	snprintf(path, size, "%s", text + n);
}

/*
 * A container that runs containers, or systemd, hands controllers down to cgroups of its own, and from then on its cgroup takes no processes. Its
 * init has moved down then, and so does who is to join it.
 */
int cgroup_open_for_exec(int cgroup_fd, const char *id, pid_t init, struct error *error)
{
	char controllers[512], path[4096] = "";

	if (read_file(cgroup_fd, "cgroup.subtree_control", controllers, sizeof(controllers)) > 0 && controllers[0] > ' ')
		path_below(id, init, path, sizeof(path));
	return cgroup_open_below(cgroup_fd, path, error);
}

/* Calls fn for each directory in dir_fd. The first error is returned. */
static int each_child(int dir_fd, int (*fn)(int dir_fd, const char *name, int depth, void *arg), int depth, void *arg)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;

	if (depth > DEPTH_MAX || fd < 0 || !(dir = fdopendir(fd))) {
		cleanup_closep(&fd);
		return -errno;
	}
	while (result == 0 && (entry = readdir(dir))) {
		if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			result = fn(dir_fd, entry->d_name, depth + 1, arg);
	}
	return result;
}

static int remove_tree(int dir_fd, const char *name, int depth, void *arg)
{
	cleanup_close int fd = -1;

	if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY && errno != ENOTEMPTY)
		return -errno;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		(void)each_child(fd, remove_tree, depth, arg);
	return unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

int cgroup_remove(const char *id)
{
	cleanup_close int parent = open(CGROUP_PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return parent >= 0 ? remove_tree(parent, id, 0, NULL) : -errno;
}

/* The number after a word at the beginning of a line; 0 where it is missing. */
static uint64_t keyed(int cgroup_fd, const char *file, const char *key)
{
	char text[4096], *rest = text;
	size_t len = strlen(key);

	if (read_file(cgroup_fd, file, text, sizeof(text)) <= 0)
		return 0;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return strtoull(line + len + 1, NULL, 10);
	}
	return 0;
}

bool cgroup_populated(int cgroup_fd)
{
	return keyed(cgroup_fd, "cgroup.events", "populated") != 0;
}

int cgroup_freeze(int cgroup_fd, bool freeze)
{
	return write_file(cgroup_fd, "cgroup.freeze", freeze ? "1" : "0");
}

bool cgroup_frozen(int cgroup_fd)
{
	return keyed(cgroup_fd, "cgroup.events", "frozen") != 0;
}

uint64_t cgroup_oom_kills(int cgroup_fd)
{
	return keyed(cgroup_fd, "memory.events", "oom_kill");
}

static void kill_pid(pid_t pid, void *arg)
{
	(void)arg;
	kill(pid, SIGKILL);
}

int cgroup_kill(int cgroup_fd)
{
	int result = write_file(cgroup_fd, "cgroup.kill", "1");

	/* Before Linux 5.14 there is no such file. A process that forks meanwhile is caught by the next round of who waits for emptiness. */
	return result == -ENOENT ? cgroup_each_pid(cgroup_fd, kill_pid, NULL) : result;
}

struct each_pid {
	cgroup_pid_fn *fn;
	void *arg;
};

static int pids_of(int dir_fd, const char *name, int depth, void *arg)
{
	struct each_pid *each = arg;
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_file FILE *procs = NULL;
	int file, pid;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	file = openat(fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	procs = file >= 0 ? fdopen(file, "re") : NULL;
	if (!procs) {
		cleanup_closep(&file);
		return -errno;
	}
	/* 0 is a process outside of our pid namespace. In a threaded cgroup reading fails, which ends the loop as well. */
	while (fscanf(procs, "%d", &pid) == 1) {
		if (pid > 0)
			each->fn(pid, each->arg);
	}
	return each_child(fd, pids_of, depth, arg);
}

int cgroup_each_pid(int cgroup_fd, cgroup_pid_fn *fn, void *arg)
{
	struct each_pid each = { fn, arg };

	return pids_of(cgroup_fd, ".", 0, &each);
}
