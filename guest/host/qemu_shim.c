/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded (LD_PRELOAD) into what serves a shared folder: QEMU, for its 9p server, and virtiofsd.
 *
 * A guest that touches a file for those who watch it there (wire/touch_order.h) wants nothing of the host's file: TOUCH_TIME is not set, and not an error.
 *
 * The rest is for 9p alone.
 * Since CVE-2023-2861 the server refuses each descriptor that fstat says is of a special file. From 7.2.4 to 9.1 it does so also
 * for those with O_PATH, which can do no I/O, and which it opens to set a mode: mknod, mkfifo, bind of a unix socket and chmod of
 * any of these fail with ENXIO in the guest, and what was made is taken away again. QEMU 9.2 lets them be; this does for the others.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "touch_order.h"

static int is_special(mode_t mode)
{
	return S_ISFIFO(mode) || S_ISSOCK(mode) || S_ISCHR(mode) || S_ISBLK(mode);
}

int fstat64(int fd, struct stat64 *st)
{
	int flags;

	if (fstatat64(fd, "", st, AT_EMPTY_PATH) < 0)
		return -1;
	flags = is_special(st->st_mode) ? fcntl(fd, F_GETFL) : 0;
	if (flags >= 0 && (flags & O_PATH))
		st->st_mode = S_IFREG | (st->st_mode & ~(mode_t)S_IFMT);
	return 0;
}

static bool is_touch(const struct timespec *times)
{
	return times && times[1].tv_sec == TOUCH_TIME && times[1].tv_nsec == 0;
}

int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
	if (is_touch(times))
		return 0;
	/* The system call itself differs from it in nothing but a path of NULL, which is its own business. */
	return (int)syscall(SYS_utimensat, dirfd, path, times, flags);
}

int futimens(int fd, const struct timespec times[2])
{
	return is_touch(times) ? 0 : (int)syscall(SYS_utimensat, fd, NULL, times, 0);
}
