/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"
#include "container.h"
#include "inroot.h"
#include "mounts.h"
#include "rootfs.h"

struct device {
	const char *path;
	mode_t type; /* S_IFCHR, S_IFBLK or S_IFIFO */
	unsigned int major, minor;
	mode_t mode;
	uid_t uid;
	gid_t gid;
};

static const struct device default_devices[] = {
	{ "/dev/null", S_IFCHR, 1, 3, 0666, 0, 0 },   { "/dev/zero", S_IFCHR, 1, 5, 0666, 0, 0 },
	{ "/dev/full", S_IFCHR, 1, 7, 0666, 0, 0 },   { "/dev/random", S_IFCHR, 1, 8, 0666, 0, 0 },
	{ "/dev/urandom", S_IFCHR, 1, 9, 0666, 0, 0 }, { "/dev/tty", S_IFCHR, 5, 0, 0666, 0, 0 },
};

static const struct {
	const char *path, *target;
} links[] = {
	{ "/dev/fd", "/proc/self/fd" },
	{ "/dev/stdin", "/proc/self/fd/0" },
	{ "/dev/stdout", "/proc/self/fd/1" },
	{ "/dev/stderr", "/proc/self/fd/2" },
};

/* The file system may have its own idea of who owns a new file, and of its mode; or it was there. */
static int settle_owner(int parent, const char *name, const struct device *device)
{
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & 07777) == device->mode && st.st_uid == device->uid &&
	    st.st_gid == device->gid)
		return 0;
	return fchmodat(parent, name, device->mode, 0) < 0 || fchownat(parent, name, device->uid, device->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -1 : 0;
}

static bool same_device(int parent, const char *name, const struct device *device)
{
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (st.st_mode & S_IFMT) != device->type)
		return false;
	return device->type == S_IFIFO || st.st_rdev == makedev(device->major, device->minor);
}

/* Without the power to make device nodes, the guest's own is mounted in their place. */
static int bind_device(struct rootfs *rootfs, const struct device *device, struct error *error)
{
	cleanup_close int tree = -1, target = -1;
	struct stat st;

	tree = open_tree(AT_FDCWD, device->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || fstat(tree, &st) < 0)
		return error_sys(error, errno, "cannot find device %s in the guest", device->path);
	if ((st.st_mode & S_IFMT) != device->type || st.st_rdev != makedev(device->major, device->minor))
		return error_sys(error, ENODEV, "cannot find device %u:%u as %s in the guest", device->major, device->minor, device->path);
	target = inroot_mount_point(rootfs->root_fd, device->path, false, error);
	if (target < 0)
		return -1;
	return mount_attach(tree, target) < 0 ? error_sys(error, errno, "cannot mount device %s", device->path) : 0;
}

static int make_device(struct rootfs *rootfs, const struct device *device, struct error *error)
{
	const char *name;
	cleanup_close int parent = -1;

	if (rootfs->spawn->container->namespaces & CLONE_NEWUSER && device->type != S_IFIFO)
		return bind_device(rootfs, device, error);
	parent = inroot_parent(rootfs->root_fd, device->path, &name, error);
	if (parent < 0)
		return -1;
	if (mknodat(parent, name, device->type | device->mode, makedev(device->major, device->minor)) < 0) {
		if (errno != EEXIST || !same_device(parent, name, device))
			return error_sys(error, errno, "cannot create device %s", device->path);
	}
	if (settle_owner(parent, name, device) < 0)
		return error_sys(error, errno, "cannot set the owner and mode of device %s", device->path);
	return 0;
}

static int parse_type(const struct node *entry, struct device *device, struct error *error)
{
	const char *type;

	if (get_str(entry, "type", &type, error) < 0)
		return -1;
	if (strcmp(type, "c") == 0 || strcmp(type, "u") == 0)
		device->type = S_IFCHR;
	else if (strcmp(type, "b") == 0)
		device->type = S_IFBLK;
	else if (strcmp(type, "p") == 0)
		device->type = S_IFIFO;
	else
		return node_fail(entry, "type", error, "must be one of b, c, u and p");
	return 0;
}

static int parse_device(const struct node *entry, struct device *device, struct error *error)
{
	int64_t major = 0, minor = 0, mode = 0666, uid = 0, gid = 0;

	if (get_str(entry, "path", &device->path, error) < 0 || parse_type(entry, device, error) < 0)
		return -1;
	/* -1 in a member that is left to the runtime is what some callers write. */
	if (opt_int(entry, "major", -1, 0xfff, &major, error) < 0 || opt_int(entry, "minor", -1, 0xfffff, &minor, error) < 0 ||
	    opt_int(entry, "fileMode", 0, UINT32_MAX, &mode, error) < 0 || opt_int(entry, "uid", 0, UINT32_MAX, &uid, error) < 0 ||
	    opt_int(entry, "gid", 0, UINT32_MAX, &gid, error) < 0)
		return -1;
	device->major = major < 0 ? 0 : (unsigned int)major;
	device->minor = minor < 0 ? 0 : (unsigned int)minor;
	device->mode = (mode_t)mode & 07777;
	device->uid = (uid_t)uid;
	device->gid = (gid_t)gid;
	return 0;
}

static int listed_devices(struct rootfs *rootfs, struct error *error)
{
	struct node list, entry;

	if (opt_array(rootfs->linux_node, "devices", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		struct device device;

		if (array_object(&list, i, &entry, error) < 0 || parse_device(&entry, &device, error) < 0 ||
		    make_device(rootfs, &device, error) < 0)
			return -1;
	}
	return 0;
}

/* An existing entry is kept, but for ptmx: a device of that name would be the guest's first devpts and not the container's. */
static int make_link(struct rootfs *rootfs, const char *path, const char *target, bool replace, struct error *error)
{
	const char *name;
	cleanup_close int parent = inroot_parent(rootfs->root_fd, path, &name, error);

	if (parent < 0)
		return -1;
	if (replace && unlinkat(parent, name, 0) < 0 && errno != ENOENT && errno != EBUSY)
		return error_sys(error, errno, "cannot replace %s", path);
	if (symlinkat(target, parent, name) < 0 && errno != EEXIST)
		return error_sys(error, errno, "cannot create link %s", path);
	return 0;
}

static int make_all(struct rootfs *rootfs, struct error *error)
{
	for (size_t i = 0; i < sizeof(default_devices) / sizeof(default_devices[0]); i++) {
		if (make_device(rootfs, &default_devices[i], error) < 0)
			return -1;
	}
	if (listed_devices(rootfs, error) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		if (make_link(rootfs, links[i].path, links[i].target, false, error) < 0)
			return -1;
	}
	return make_link(rootfs, "/dev/ptmx", "pts/ptmx", true, error);
}

int devices_make(struct rootfs *rootfs, struct error *error)
{
	mode_t old;
	int result;

	/* What is in a /dev that was bound from elsewhere is not ours to change. */
	if (rootfs->own_dev)
		return 0;
	old = umask(0);
	result = make_all(rootfs, error);
	umask(old);
	return result;
}
