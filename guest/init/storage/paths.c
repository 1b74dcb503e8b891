/* SPDX-License-Identifier: Apache-2.0 */
/* Masked and read-only paths. Runs before pivot_root, while the guest's own /dev/null is at hand: a container's may be anything. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "inroot.h"
#include "mounts.h"
#include "rootfs.h"

static bool absent(int errnum)
{
	return errnum == ENOENT || errnum == ENOTDIR;
}

static int protect(int root_fd, const char *path, struct error *error)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	cleanup_close int place = inroot_open(root_fd, path, O_PATH);
	cleanup_close int tree = -1;

	if (place < 0)
		return absent(errno) ? 0 : error_sys(error, errno, "cannot open read-only path %s", path);
	tree = open_tree(place, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0 || mount_attach(tree, place) < 0)
		return error_sys(error, errno, "cannot make %s read-only", path);
	return 0;
}

static int mask(int root_fd, const char *path, struct error *error)
{
	cleanup_close int place = inroot_open(root_fd, path, O_PATH);
	cleanup_close int tree = -1;
	struct stat st;

	if (place < 0)
		return absent(errno) ? 0 : error_sys(error, errno, "cannot open masked path %s", path);
	if (fstat(place, &st) < 0)
		return error_sys(error, errno, "cannot mask %s", path);
	if (S_ISDIR(st.st_mode)) {
		int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

		if (fs >= 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
			tree = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		cleanup_closep(&fs);
	} else {
		tree = open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	}
	if (tree < 0 || mount_attach(tree, place) < 0)
		return error_sys(error, errno, "cannot mask %s", path);
	return 0;
}

int paths_protect(int root_fd, const struct node *linux_node, struct error *error)
{
	struct node readonly, masked;
	const char *path;

	if (opt_array(linux_node, "readonlyPaths", &readonly, error) < 0 || opt_array(linux_node, "maskedPaths", &masked, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&readonly); i++) {
		if (array_str(&readonly, i, &path, error) < 0 || protect(root_fd, path, error) < 0)
			return -1;
	}
	for (size_t i = 0; i < array_len(&masked); i++) {
		if (array_str(&masked, i, &path, error) < 0 || mask(root_fd, path, error) < 0)
			return -1;
	}
	return 0;
}
