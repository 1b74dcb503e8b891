/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "inroot.h"
#include "mounts.h"
#include "rootfs.h"

/* Only a real devpts is trusted to be one: the path is the container's. */
static int open_master(int root_fd)
{
	int fd = inroot_open(root_fd, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
	struct statfs fs;
	struct stat st;

	if (fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == DEVPTS_SUPER_MAGIC && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	    st.st_rdev == makedev(5, 2))
		return fd;
	cleanup_closep(&fd);
	errno = ENODEV;
	return -1;
}

static int set_size(int master, const struct node *process, struct error *error)
{
	struct winsize size = { 0 };
	int64_t rows = 0, columns = 0;
	struct node console;

	if (opt_object(process, "consoleSize", &console, error) < 0 || opt_int(&console, "height", 0, UINT16_MAX, &rows, error) < 0 ||
	    opt_int(&console, "width", 0, UINT16_MAX, &columns, error) < 0)
		return -1;
	size.ws_row = (unsigned short)rows;
	size.ws_col = (unsigned short)columns;
	if ((rows || columns) && ioctl(master, TIOCSWINSZ, &size) < 0)
		return error_sys(error, errno, "cannot set the size of the terminal");
	return 0;
}

int terminal_open(int root_fd, const struct node *process, int *master, int *slave, struct error *error)
{
	int unlock = 0;

	*master = open_master(root_fd);
	if (*master < 0)
		return error_sys(error, errno, "cannot open /dev/pts/ptmx");
	if (ioctl(*master, TIOCSPTLCK, &unlock) < 0)
		return error_sys(error, errno, "cannot unlock the terminal");
	/* Not by its name, which would have to be looked up in the container. */
	*slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return error_sys(error, errno, "cannot open the terminal");
	return set_size(*master, process, error);
}

int terminal_console(int root_fd, int slave, struct error *error)
{
	char path[64];
	cleanup_close int place = -1, tree = -1, target = -1;
	struct stat st, named;
	unsigned int number;

	if (fstat(slave, &st) < 0)
		return error_sys(error, errno, "cannot look at the terminal");
	number = minor(st.st_rdev) + 256 * (major(st.st_rdev) - 136);
	snprintf(path, sizeof(path), "/dev/pts/%u", number);
	place = inroot_open(root_fd, path, O_PATH | O_NOFOLLOW);
	if (place < 0 || fstat(place, &named) < 0 || named.st_rdev != st.st_rdev)
		return error_sys(error, place < 0 ? errno : ENODEV, "cannot find the terminal at %s", path);
	target = inroot_mount_point(root_fd, "/dev/console", false, error);
	if (target < 0)
		return -1;
	tree = open_tree(place, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0 || mount_attach(tree, target) < 0)
		return error_sys(error, errno, "cannot mount the terminal at /dev/console");
	return 0;
}

int terminal_adopt(int slave, struct error *error)
{
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return error_sys(error, errno, "cannot make the terminal the controlling one");
	return 0;
}
