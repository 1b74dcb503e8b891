/* SPDX-License-Identifier: Apache-2.0 */
#include "copy_up.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

enum { DEPTH_MAX = 64 };

static int copy_tree(int from, int to, int depth);

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

static int copy_directory(int from, int to, const char *name, int depth)
{
	cleanup_close int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int out = -1;

	if (in < 0 || mkdirat(to, name, 0700) < 0)
		return -1;
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return out >= 0 ? copy_tree(in, out, depth + 1) : -1;
}

static int copy_entry(int from, int to, const char *name, int depth)
{
	struct timespec times[2];
	struct stat st;
	int result;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (S_ISREG(st.st_mode))
		result = copy_file(from, to, name, st.st_mode);
	else if (S_ISDIR(st.st_mode))
		result = copy_directory(from, to, name, depth);
	else if (S_ISLNK(st.st_mode))
		result = copy_link(from, to, name);
	else
		result = mknodat(to, name, st.st_mode, st.st_rdev);
	if (result < 0 || fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	/* The change of the owner has taken the set-id bits away. */
	if (!S_ISLNK(st.st_mode) && fchmodat(to, name, st.st_mode & 07777, 0) < 0)
		return -1;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_tree(int from, int to, int depth)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int fd = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;

	if (fd < 0 || !(dir = fdopendir(fd))) {
		cleanup_closep(&fd);
		return -1;
	}
	if (depth > DEPTH_MAX) {
		errno = ELOOP;
		return -1;
	}
	while (result == 0 && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			result = copy_entry(from, to, entry->d_name, depth);
	}
	return result;
}

int copy_up(int from_fd, int to_fd, struct error *error)
{
	struct stat st;

	if (copy_tree(from_fd, to_fd, 0) < 0)
		return error_sys(error, errno, "cannot fill the new tmpfs");
	/* As an O_PATH descriptor, to_fd itself cannot be changed. */
	if (fstat(from_fd, &st) < 0 || fchmodat(to_fd, ".", st.st_mode & 07777, 0) < 0 || fchownat(to_fd, ".", st.st_uid, st.st_gid, 0) < 0)
		return error_sys(error, errno, "cannot copy the owner and mode of the directory");
	return 0;
}
