/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded into QEMU (LD_PRELOAD), for its 9p server.
 *
 * Since CVE-2023-2861 the server refuses each descriptor that fstat says is of a special file. From 7.2.4 to 9.1 it does so also
 * for those with O_PATH, which can do no I/O, and which it opens to set a mode: mknod, mkfifo, bind of a unix socket and chmod of
 * any of these fail with ENXIO in the guest, and what was made is taken away again. QEMU 9.2 lets them be; this does for the others.
 */
#include <fcntl.h>
#include <sys/stat.h>

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
