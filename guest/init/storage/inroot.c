/* SPDX-License-Identifier: Apache-2.0 */
#include "inroot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"

enum { TRIES = 64, LINKS_MAX = 8 };

static int open_resolving(int root_fd, const char *path, int flags, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve,
	};
	int fd = -1;

	/* EAGAIN: something was renamed during a "..", and the kernel could not be sure. */
	for (int i = 0; i < TRIES && fd < 0 && (i == 0 || errno == EAGAIN); i++)
		fd = (int)syscall(SYS_openat2, root_fd, *path ? path : "/", &how, sizeof(how));
	return fd;
}

int inroot_open(int root_fd, const char *path, int flags)
{
	return open_resolving(root_fd, path, flags, 0);
}

/* The part of path that begins at or behind at, slashes left out; empty: there is none any more. */
static size_t next_part(const char *path, size_t at, size_t *len)
{
	at += strspn(path + at, "/");
	*len = strcspn(path + at, "/");
	return at;
}

/* Whether a path without symbolic links leads to something below where it begins. */
static bool goes_down(const char *path)
{
	size_t at, len, depth = 0;

	for (at = next_part(path, 0, &len); len > 0; at = next_part(path, at + len, &len)) {
		if (len == 2 && strncmp(path + at, "..", 2) == 0)
			return false;
		depth += !(len == 1 && path[at] == '.');
	}
	return depth > 0;
}

int inroot_open_below(int root_fd, const char *path)
{
	if (goes_down(path))
		return open_resolving(root_fd, path, O_PATH, RESOLVE_NO_SYMLINKS);
	errno = ELOOP;
	return -1;
}

static int make_missing(int root_fd, const char *path, int links);

static int mkdirs(int root_fd, const char *path, int links)
{
	int fd = inroot_open(root_fd, path, O_PATH | O_DIRECTORY);

	return fd >= 0 || errno != ENOENT ? fd : make_missing(root_fd, path, links);
}

/*
 * A directory that is wanted is a link to nowhere, as /var/run is in an image without /run. What it leads to is
 * made, within the root.
 */
static int follow_link(int root_fd, int parent, const char *name, const char *above, int links)
{
	char target[PATH_MAX], path[2 * PATH_MAX];
	ssize_t n = readlinkat(parent, name, target, sizeof(target) - 1);

	if (n < 0 || links >= LINKS_MAX) {
		errno = n < 0 ? errno : ELOOP;
		return -1;
	}
	target[n] = '\0';
	snprintf(path, sizeof(path), "%s/%s", target[0] == '/' ? "" : above, target);
	return mkdirs(root_fd, path, links + 1);
}

/* One step: the directory at the first len bytes of path, whose last part begins at start and is missing in parent. */
static int make_part(int root_fd, int parent, const char *path, size_t start, size_t len, int links)
{
	char prefix[PATH_MAX], name[NAME_MAX + 1];

	if (len - start > NAME_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(name, path + start, len - start);
	name[len - start] = '\0';
	memcpy(prefix, path, len);
	if (mkdirat(parent, name, 0755) == 0) {
		prefix[len] = '\0';
		return inroot_open(root_fd, prefix, O_PATH | O_DIRECTORY);
	}
	prefix[start] = '\0';
	return errno == EEXIST ? follow_link(root_fd, parent, name, prefix, links) : -1;
}

/* The longest part of path, up to a slash, that is there; *at: how long. Mostly only the last part of a path is missing. */
static int open_what_is_there(int root_fd, const char *path, size_t *at)
{
	char prefix[PATH_MAX];
	int fd;

	do {
		while (*at > 0 && path[*at - 1] == '/')
			--*at;
		while (*at > 0 && path[*at - 1] != '/')
			--*at;
		memcpy(prefix, path, *at);
		prefix[*at] = '\0';
		fd = inroot_open(root_fd, prefix, O_PATH | O_DIRECTORY);
	} while (fd < 0 && errno == ENOENT && *at > 0);
	return fd;
}

static int step(int root_fd, int parent, const char *path, size_t start, size_t len, int links)
{
	char prefix[PATH_MAX];
	int fd;

	memcpy(prefix, path, len);
	prefix[len] = '\0';
	fd = inroot_open(root_fd, prefix, O_PATH | O_DIRECTORY);
	return fd >= 0 || errno != ENOENT ? fd : make_part(root_fd, parent, path, start, len, links);
}

/* The path was looked for and not found. */
static int make_missing(int root_fd, const char *path, int links)
{
	size_t at = strlen(path), len;
	int fd;

	if (at >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = open_what_is_there(root_fd, path, &at);
	for (bool known = true; fd >= 0; known = false) {
		cleanup_close int parent = fd;

		at = next_part(path, at, &len);
		if (len == 0)
			return steal_fd(&parent);
		fd = (known ? make_part : step)(root_fd, parent, path, at, at + len, links);
		at += len;
	}
	return -1;
}

int inroot_mkdirs(int root_fd, const char *path, struct error *error)
{
	int fd = mkdirs(root_fd, path, 0);

	return fd >= 0 ? fd : error_sys(error, errno, "cannot create directory %s", path);
}

int inroot_parent(int root_fd, const char *path, const char **name, struct error *error)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	*name = slash ? slash + 1 : path;
	if (len >= sizeof(parent) || !**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
		return error_set(error, KIND_INVALID, "%s is not a path of a file", path);
	memcpy(parent, path, len);
	parent[len] = '\0';
	return inroot_mkdirs(root_fd, parent, error);
}

static int new_file(int root_fd, const char *path, struct error *error)
{
	const char *name;
	cleanup_close int parent = inroot_parent(root_fd, path, &name, error);
	cleanup_close int file = -1;
	int fd;

	if (parent < 0)
		return -1;
	file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (file < 0)
		return error_sys(error, errno, "cannot create file %s", path);
	fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd >= 0 ? fd : error_sys(error, errno, "cannot open %s", path);
}

int inroot_mount_point(int root_fd, const char *path, bool directory, struct error *error)
{
	int fd = inroot_open(root_fd, path, O_PATH);

	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return error_sys(error, errno, "cannot open %s", path);
	if (!directory)
		return new_file(root_fd, path, error);
	fd = make_missing(root_fd, path, 0);
	return fd >= 0 ? fd : error_sys(error, errno, "cannot create directory %s", path);
}
