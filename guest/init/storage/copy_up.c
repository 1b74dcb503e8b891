/* SPDX-License-Identifier: Apache-2.0 */
#include "copy_up.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cleanup.h"

enum { DEPTH_MAX = 64 };

/* In the volume: what is being copied; and what is complete, but not yet where it belongs */
#define HALF ".runv-copying"
#define WHOLE ".runv-copied"

/* A file with more names than one, and the first of them that was copied */
struct link {
	dev_t device;
	ino_t inode;
	char *path; /* from the top */
};

struct copy {
	int top;
	struct link *links;
	size_t link_count;
	char path[PATH_MAX]; /* from the top, of what is copied at the moment */
	char names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX];
};

static int copy_tree(struct copy *copy, int from, int to, int depth);

static struct copy *copy_new(int top)
{
	struct copy *copy = calloc(1, sizeof(*copy));

	if (copy)
		copy->top = top;
	return copy;
}

static void copy_free(struct copy *copy)
{
	for (size_t i = 0; copy && i < copy->link_count; i++)
		free(copy->links[i].path);
	if (copy)
		free(copy->links);
	free(copy);
}

/* 1: it is there now, as one more name of a file that was copied before. */
static int copy_known(const struct copy *copy, const struct stat *st, int to, const char *name)
{
	for (size_t i = 0; i < copy->link_count; i++) {
		if (copy->links[i].device == st->st_dev && copy->links[i].inode == st->st_ino)
			return linkat(copy->top, copy->links[i].path, to, name, 0) < 0 ? -1 : 1;
	}
	return 0;
}

static int remember(struct copy *copy, const struct stat *st)
{
	struct link *links = reallocarray(copy->links, copy->link_count + 1, sizeof(*links));
	char *path = strdup(copy->path);

	if (links)
		copy->links = links;
	if (!links || !path) {
		free(path);
		errno = ENOMEM;
		return -1;
	}
	links[copy->link_count++] = (struct link){ .device = st->st_dev, .inode = st->st_ino, .path = path };
	return 0;
}

static int copy_file(int from, int to, const char *name, mode_t mode)
{
	cleanup_close int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup_close int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777);
	ssize_t n;

	if (in < 0 || out < 0)
		return -1;
	do
		n = sendfile(out, in, NULL, 1 << 20);
	while (n > 0);
	return (int)n;
}

static int copy_link(int from, int to, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return -1;
	target[n] = '\0';
	return symlinkat(target, to, name);
}

static int copy_directory(struct copy *copy, int from, int to, const char *name, int depth)
{
	cleanup_close int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int out = -1;

	if (in < 0 || mkdirat(to, name, 0700) < 0)
		return -1;
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return out >= 0 ? copy_tree(copy, in, out, depth + 1) : -1;
}

/* What the target's file system has no place for, it does without. */
static int copy_attributes(struct copy *copy, int from, int to, const char *name)
{
	ssize_t length, size;

	/* There are no such calls with a descriptor and a name, and a container need not have a /proc. */
	if (fchdir(from) < 0)
		return -1;
	length = llistxattr(name, copy->names, sizeof(copy->names));
	if (length < 0)
		return errno == EOPNOTSUPP ? 0 : -1;
	for (const char *attribute = copy->names; attribute < copy->names + length; attribute += strlen(attribute) + 1) {
		if (fchdir(from) < 0)
			return -1;
		size = lgetxattr(name, attribute, copy->value, sizeof(copy->value));
		if (size < 0 || fchdir(to) < 0 || (lsetxattr(name, attribute, copy->value, (size_t)size, 0) < 0 && errno != EOPNOTSUPP))
			return -1;
	}
	return 0;
}

static int copy_content(struct copy *copy, const struct stat *st, int from, int to, const char *name, int depth)
{
	if (S_ISREG(st->st_mode))
		return copy_file(from, to, name, st->st_mode);
	if (S_ISDIR(st->st_mode))
		return copy_directory(copy, from, to, name, depth);
	if (S_ISLNK(st->st_mode))
		return copy_link(from, to, name);
	return mknodat(to, name, st->st_mode, st->st_rdev);
}

static int copy_entry(struct copy *copy, int from, int to, const char *name, int depth)
{
	struct timespec times[2];
	struct stat st;
	bool linked;
	int known;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	linked = !S_ISDIR(st.st_mode) && st.st_nlink > 1;
	known = linked ? copy_known(copy, &st, to, name) : 0;
	if (known != 0)
		return known < 0 ? -1 : 0;
	if (copy_content(copy, &st, from, to, name, depth) < 0 || fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	/* The change of the owner has taken the set-id bits away, and would take capabilities. */
	if (!S_ISLNK(st.st_mode) && fchmodat(to, name, st.st_mode & 07777, 0) < 0)
		return -1;
	if (copy_attributes(copy, from, to, name) < 0 || (linked && remember(copy, &st) < 0))
		return -1;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_named(struct copy *copy, int from, int to, const char *name, int depth)
{
	size_t used = strlen(copy->path);
	int result;

	if (used + strlen(name) + 2 > sizeof(copy->path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	snprintf(copy->path + used, sizeof(copy->path) - used, "%s%s", used ? "/" : "", name);
	result = copy_entry(copy, from, to, name, depth);
	copy->path[used] = '\0';
	return result;
}

static bool is_entry(const char *name)
{
	return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static DIR *open_dir(int fd)
{
	int copied = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copied >= 0 ? fdopendir(copied) : NULL;

	if (!dir)
		cleanup_closep(&copied);
	return dir;
}

static int copy_tree(struct copy *copy, int from, int to, int depth)
{
	cleanup_dir DIR *dir = open_dir(from);
	struct dirent *entry;
	int result = 0;

	if (!dir)
		return -1;
	if (depth > DEPTH_MAX) {
		errno = ELOOP;
		return -1;
	}
	while (result == 0 && (entry = readdir(dir))) {
		if (is_entry(entry->d_name))
			result = copy_named(copy, from, to, entry->d_name, depth);
	}
	return result;
}

static int copy_all(int from_fd, int to_fd)
{
	struct copy *copy = copy_new(to_fd);
	int result = copy ? copy_tree(copy, from_fd, to_fd, 0) : -1, errnum = errno;

	copy_free(copy);
	errno = errnum;
	return result;
}

static int copy_owner(int from_fd, int to_fd, struct error *error)
{
	struct stat st;

	/* As an O_PATH descriptor, to_fd itself cannot be changed. */
	if (fstat(from_fd, &st) < 0 || fchmodat(to_fd, ".", st.st_mode & 07777, 0) < 0 || fchownat(to_fd, ".", st.st_uid, st.st_gid, 0) < 0)
		return error_sys(error, errno, "cannot copy the owner and mode of the directory");
	return 0;
}

int copy_up(int from_fd, int to_fd, struct error *error)
{
	if (copy_all(from_fd, to_fd) < 0)
		return error_sys(error, errno, "cannot fill the new file system");
	return copy_owner(from_fd, to_fd, error);
}

static void remove_all(int parent, const char *name, int depth)
{
	cleanup_close int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_dir DIR *dir = fd >= 0 && depth <= DEPTH_MAX + 1 ? open_dir(fd) : NULL;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (is_entry(entry->d_name))
			remove_all(fd, entry->d_name, depth + 1);
	}
	(void)unlinkat(parent, name, fd >= 0 ? AT_REMOVEDIR : 0);
}

/* Moves what was copied to where it belongs. What somebody else has made there meanwhile stays. */
static int settle(int volume, struct error *error)
{
	cleanup_close int whole = openat(volume, WHOLE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_dir DIR *dir = whole >= 0 ? open_dir(whole) : NULL;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (!is_entry(entry->d_name) || renameat2(whole, entry->d_name, volume, entry->d_name, RENAME_NOREPLACE) == 0)
			continue;
		if (errno != EEXIST)
			return error_sys(error, errno, "cannot fill the volume");
		remove_all(whole, entry->d_name, 0);
	}
	if (!dir || unlinkat(volume, WHOLE, AT_REMOVEDIR) < 0)
		return error_sys(error, errno, "cannot fill the volume");
	return 0;
}

/* 1: nothing is in it, but perhaps what mkfs made. */
static int is_empty(int volume)
{
	cleanup_dir DIR *dir = open_dir(volume);
	struct dirent *entry;

	if (!dir)
		return -1;
	while ((entry = readdir(dir))) {
		if (is_entry(entry->d_name) && strcmp(entry->d_name, "lost+found") != 0)
			return 0;
	}
	return 1;
}

/* Under a name of its own, and all of it on the disk, before that name says that it is complete. */
static int copy_aside(int from_fd, int volume, struct error *error)
{
	cleanup_close int half = -1;
	int errnum;

	if (mkdirat(volume, HALF, 0700) == 0) {
		half = openat(volume, HALF, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (half >= 0 && copy_all(from_fd, half) == 0 && syncfs(volume) == 0 && renameat(volume, HALF, volume, WHOLE) == 0)
			return 0;
	}
	errnum = errno;
	remove_all(volume, HALF, 0);
	return error_sys(error, errnum, "cannot fill the volume");
}

int populate(int from_fd, int to_fd, struct error *error)
{
	cleanup_close int volume = openat(to_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int empty;

	if (volume < 0 || flock(volume, LOCK_EX) < 0)
		return error_sys(error, errno, "cannot fill the volume");
	if (faccessat(volume, WHOLE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return settle(volume, error) < 0 ? -1 : copy_owner(from_fd, volume, error);
	remove_all(volume, HALF, 0);
	empty = is_empty(volume);
	if (empty < 0)
		return error_sys(error, errno, "cannot look into the volume");
	if (!empty)
		return 0;
	return copy_aside(from_fd, volume, error) < 0 || settle(volume, error) < 0 ? -1 : copy_owner(from_fd, volume, error);
}
