/* SPDX-License-Identifier: Apache-2.0 */
#include "rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "container.h"
#include "inroot.h"
#include "layers.h"
#include "mounts.h"
#include "sysctl.h"

#define ROOT_PLACE "/run/root"

int mount_attach(int tree_fd, int target_fd)
{
	return move_mount(tree_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* A root on a disk. */
static int mount_disk(const struct node *root, const char *source, const char *type, struct error *error)
{
	struct mount_options options;
	bool readonly = false;

	if (opt_bool(root, "readonly", &readonly, error) < 0 || mount_options_parse(root, &options, error) < 0)
		return -1;
	/* What has to be made in it, it gets before it becomes read-only. */
	readonly = readonly && strcmp(type, "tmpfs") != 0;
	if (mount_file_system(source, ROOT_PLACE, type, options.flags | (readonly ? MS_RDONLY : 0), options.data) < 0) {
		if (errno == ENODEV)
			return error_set(error, KIND_UNSUPPORTED, "cannot mount the rootfs: the guest's kernel has no file system %s", type);
		return error_sys(error, errno, "cannot mount the rootfs as %s", type);
	}
	return 0;
}

/* What is mounted for it is where only this container's namespace sees it, and gone with that. */
static int mount_root(const struct node *root, const char **path, struct error *error)
{
	const char *type = "";
	bool layered = has_member(root, "layers");

	if (opt_str(root, "type", &type, error) < 0 || (!layered && get_str(root, "path", path, error) < 0))
		return -1;
	if (!layered && **path != '/')
		return node_fail(root, "path", error, "must be an absolute path of the guest");
	if (!layered && !*type)
		return 0;
	if (mkdir(ROOT_PLACE, 0700) < 0 && errno != EEXIST)
		return error_sys(error, errno, "cannot create " ROOT_PLACE);
	if (layered ? layers_mount(root, ROOT_PLACE, error) < 0 : mount_disk(root, *path, type, error) < 0)
		return -1;
	*path = ROOT_PLACE;
	return 0;
}

/* The root becomes a mount of its own, which pivot_root wants and which keeps flags off the file system it lies in. */
static int open_root(struct rootfs *rootfs, struct error *error)
{
	struct mount_attr private = { .propagation = MS_PRIVATE };
	cleanup_close int place = -1, tree = -1;
	struct node root;
	const char *path;

	if (get_object(rootfs->oci, "root", &root, error) < 0)
		return -1;
	/* What another container shares must not see, or undo, the mounts of this one. */
	if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof(private)) < 0)
		return error_sys(error, errno, "cannot make the mounts private");
	if (mount_root(&root, &path, error) < 0)
		return -1;
	place = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (place < 0)
		return error_sys(error, errno, "cannot open rootfs %s", path);
	tree = open_tree(place, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
	if (tree < 0 || mount_attach(tree, place) < 0)
		return error_sys(error, errno, "cannot bind rootfs %s", path);
	rootfs->root_fd = steal_fd(&tree);
	return 0;
}

/* As runc does: a working directory that is missing is made. */
static int make_cwd(struct rootfs *rootfs, struct error *error)
{
	const char *cwd = "/";
	int fd;

	if (opt_str(rootfs->spawn->process, "cwd", &cwd, error) < 0)
		return -1;
	fd = inroot_open(rootfs->root_fd, cwd, O_PATH);
	if (fd < 0 && errno == ENOENT)
		fd = inroot_mkdirs(rootfs->root_fd, cwd, error);
	else if (fd < 0)
		return error_sys(error, errno, "cannot open working directory %s", cwd);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

/*
 * pivot_root with the same directory twice puts the old root on top of the new one, from where it is unmounted; no directory in the
 * container is needed for it. Afterwards nothing of the guest's files is in the namespace, so there is nothing to escape to by chroot.
 */
static int enter(struct rootfs *rootfs, struct error *error)
{
	if (fchdir(rootfs->root_fd) < 0)
		return error_sys(error, errno, "cannot enter the rootfs");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return error_sys(error, errno, "cannot pivot_root");
	if (umount2(".", MNT_DETACH) < 0)
		return error_sys(error, errno, "cannot unmount the old root");
	if (chdir("/") < 0)
		return error_sys(error, errno, "cannot enter the new root");
	return 0;
}

static int apply_root_flags(struct rootfs *rootfs, struct error *error)
{
	struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
	const char *propagation = "";
	unsigned long flags;
	struct node root;
	bool ro = false;

	if (opt_object(rootfs->oci, "root", &root, error) < 0 || opt_bool(&root, "readonly", &ro, error) < 0 ||
	    opt_str(rootfs->linux_node, "rootfsPropagation", &propagation, error) < 0)
		return -1;
	if (*propagation) {
		flags = mount_propagation(propagation);
		if (!flags)
			return node_fail(rootfs->linux_node, "rootfsPropagation", error, "is not a known propagation");
		if (mount("", "/", NULL, flags, NULL) < 0)
			return error_sys(error, errno, "cannot set the propagation of / to %s", propagation);
	}
	if (ro && mount_setattr(AT_FDCWD, "/", 0, &readonly, sizeof(readonly)) < 0)
		return error_sys(error, errno, "cannot make / read-only");
	return 0;
}

static int apply_sysctl(struct rootfs *rootfs, struct error *error)
{
	struct node table;

	if (opt_object(rootfs->linux_node, "sysctl", &table, error) < 0)
		return -1;
	return sysctl_apply(rootfs->proc_fd, &table, error);
}

/* With a terminal the slave also is /dev/console, as the specification wants. */
static int make_terminal(struct rootfs *rootfs, struct error *error)
{
	if (!rootfs->spawn->terminal)
		return 0;
	if (terminal_open(rootfs->root_fd, rootfs->spawn->process, &rootfs->tty_master, &rootfs->tty_slave, error) < 0)
		return -1;
	return rootfs->own_dev ? 0 : terminal_console(rootfs->root_fd, rootfs->tty_slave, error);
}

int rootfs_setup(struct rootfs *rootfs, struct error *error)
{
	if (open_root(rootfs, error) < 0 || mounts_apply(rootfs, error) < 0 || devices_make(rootfs, error) < 0 ||
	    make_terminal(rootfs, error) < 0 || make_cwd(rootfs, error) < 0 || apply_sysctl(rootfs, error) < 0 ||
	    paths_protect(rootfs->root_fd, rootfs->linux_node, error) < 0 || enter(rootfs, error) < 0)
		return -1;
	return apply_root_flags(rootfs, error);
}
