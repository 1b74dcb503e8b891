/* SPDX-License-Identifier: Apache-2.0 */
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"
#include "copy_up.h"
#include "grow.h"
#include "inroot.h"
#include "scsi.h"

/* Where a file system is mounted that nobody is to see */
#define PLACE "/run/volume"

static bool is_directory(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

int volume_prepare(const struct mount_request *request, int from, int to, struct error *error)
{
	if (request->options.populate && is_directory(to))
		return populate(from, to, error);
	return request->options.copy_up ? copy_up(from, to, error) : 0;
}

int volume_grow(const struct mount_request *request, int mounted, struct error *error)
{
	cleanup_close int fd = -1;

	/* Whoever may only read grows nothing. */
	if (!request->options.grow || request->options.flags & MS_RDONLY)
		return 0;
	fd = openat(mounted, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? error_sys(error, errno, "cannot open %s", request->destination) : grow(fd, request->source, error);
}

/* A descriptor of the part of what is at the path that is wanted: all of it; or a directory, made where it is missing, or a file in it. */
static int open_part(const struct mount_request *request, const char *path, struct error *error)
{
	cleanup_close int volume = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *subpath = request->options.subpath;
	int fd;

	if (volume < 0)
		return mount_fail(request, errno, error);
	if (volume_grow(request, volume, error) < 0)
		return -1;
	fd = subpath ? inroot_open(volume, subpath, O_PATH) : steal_fd(&volume);
	if (fd < 0 && errno == ENOENT)
		return inroot_mkdirs(volume, subpath, error);
	return fd < 0 ? error_sys(error, errno, "cannot open %s in the volume", subpath) : fd;
}

/* Mounts the file system at PLACE and gives a detached copy of the part that is wanted, which is not read-only yet. */
static int open_tree_of(const struct mount_request *request, unsigned long flags, struct mount_options *rest, struct error *error)
{
	cleanup_close int part = -1;
	int result, tree;

	if (mkdir(PLACE, 0700) < 0 && errno != EEXIST)
		return error_sys(error, errno, "cannot create " PLACE);
	result = mount_file_system(request->source, PLACE, request->type, flags, request->options.data);
	if (result < 0)
		return mount_fail(request, errno, error);
	if (result > 0)
		rest->set |= request->options.set & MOUNT_ATTR_RDONLY;
	part = open_part(request, PLACE, error);
	tree = part >= 0 ? open_tree(part, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH) : -1;
	if (part >= 0 && tree < 0)
		mount_fail(request, errno, error);
	umount2(PLACE, MNT_DETACH);
	return tree;
}

static int attach_tree(int root_fd, const struct mount_request *request, int tree, const struct mount_options *rest, struct error *error)
{
	cleanup_close int target = mount_target(root_fd, request, is_directory(tree), error);

	if (target < 0 || volume_prepare(request, target, tree, error) < 0)
		return -1;
	return mount_set_attr(tree, rest) < 0 || mount_attach(tree, target) < 0 ? mount_fail(request, errno, error) : 0;
}

int volume_mount_part(int root_fd, const struct mount_request *request, unsigned long flags, struct mount_options *rest, struct error *error)
{
	cleanup_close int tree = open_tree_of(request, flags, rest, error);

	return tree < 0 ? -1 : attach_tree(root_fd, request, tree, rest, error);
}

int volume_bind_part(int root_fd, const struct mount_request *request, struct error *error)
{
	unsigned int flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (request->options.recursive ? AT_RECURSIVE : 0);
	cleanup_close int part = open_part(request, request->source, error);
	cleanup_close int tree = part >= 0 ? open_tree(part, "", flags) : -1;

	if (part < 0)
		return -1;
	return tree < 0 ? mount_fail(request, errno, error) : attach_tree(root_fd, request, tree, &request->options, error);
}

static int own_mounts(struct error *error)
{
	struct mount_attr private = { .propagation = MS_PRIVATE };

	if (unshare(CLONE_NEWNS) < 0 || mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &private, sizeof(private)) < 0)
		return error_sys(error, errno, "cannot make a mount namespace");
	return 0;
}

/* The container's mounts become this process's, and its root this process's root. */
static int enter(const struct node *args, struct error *error)
{
	cleanup_close int init = -1;
	int64_t pid;

	if (get_int(args, "pid", 1, INT32_MAX, &pid, error) < 0)
		return -1;
	init = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (init < 0 || setns(init, CLONE_NEWNS) < 0)
		return error_sys(error, errno, "cannot enter the mount namespace of the container");
	return 0;
}

int volume_attach(const struct node *args, json_t **result, struct error *error)
{
	struct mount_request request;
	struct mount_options rest;
	cleanup_close int tree = -1, root = -1;
	struct node entry;
	bool fills;

	(void)result;
	if (get_object(args, "mount", &entry, error) < 0 || mount_parse(&entry, &request, error) < 0)
		return -1;
	if (request.options.bind || request.options.remount || request.options.copy_up || request.options.idmap || request.source[0] != '/')
		return node_fail(args, "mount", error, "must be of a file system on a disk");
	fills = request.options.populate;
	rest = request.options;
	rest.clear = 0;
	rest.set &= MOUNT_ATTR_NOSYMFOLLOW | (fills ? MOUNT_ATTR_RDONLY : 0);
	if (own_mounts(error) < 0)
		return -1;
	tree = open_tree_of(&request, fills ? request.options.flags & ~(unsigned long)MS_RDONLY : request.options.flags, &rest, error);
	/* What is detached can be carried into another namespace. */
	if (tree < 0 || enter(args, error) < 0)
		return -1;
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? error_sys(error, errno, "cannot open the root of the container") : attach_tree(root, &request, tree, &rest, error);
}

/* That it is what was attached there, its device says. One that is gone already is fine. */
int volume_detach(const struct node *args, json_t **result, struct error *error)
{
	const char *destination;
	int64_t major_number, minor_number;
	struct statx sx;

	(void)result;
	if (get_str(args, "destination", &destination, error) < 0 || get_int(args, "major", 0, INT32_MAX, &major_number, error) < 0 ||
	    get_int(args, "minor", 0, INT32_MAX, &minor_number, error) < 0 || enter(args, error) < 0)
		return -1;
	if (statx(AT_FDCWD, destination, AT_SYMLINK_NOFOLLOW, 0, &sx) < 0 || !(sx.stx_attributes & STATX_ATTR_MOUNT_ROOT) ||
	    sx.stx_dev_major != major_number || sx.stx_dev_minor != minor_number)
		return 0;
	if (umount2(destination, UMOUNT_NOFOLLOW) < 0)
		return error_sys(error, errno, "cannot unmount %s", destination);
	return 0;
}

static int tend(const struct node *disk, bool grows, struct error *error)
{
	const char *device, *type;
	cleanup_close int fd = -1;
	int result;

	if (get_str(disk, "node", &device, error) < 0 || get_str(disk, "type", &type, error) < 0)
		return -1;
	if (grows)
		scsi_rescan(device);
	if (mount(device, PLACE, type, 0, NULL) < 0)
		return error_sys(error, errno, "cannot open the file system on %s", device);
	fd = open(PLACE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		result = error_sys(error, errno, "cannot open the file system on %s", device);
	else if (grows)
		result = grow(fd, device, error);
	else
		result = syncfs(fd) < 0 ? error_sys(error, errno, "cannot write out %s", device) : 0;
	cleanup_closep(&fd);
	fd = -1;
	umount2(PLACE, MNT_DETACH);
	return result;
}

int volume_tend(const struct node *args, json_t **result, struct error *error)
{
	struct node list, disk;
	const char *what;

	(void)result;
	if (opt_array(args, "disks", &list, error) < 0 || get_str(args, "do", &what, error) < 0)
		return -1;
	if (strcmp(what, "sync") != 0 && strcmp(what, "grow") != 0)
		return node_fail(args, "do", error, "must be sync or grow");
	if (own_mounts(error) < 0)
		return -1;
	if (mkdir(PLACE, 0700) < 0 && errno != EEXIST)
		return error_sys(error, errno, "cannot create " PLACE);
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &disk, error) < 0 || tend(&disk, strcmp(what, "grow") == 0, error) < 0)
			return -1;
	}
	return 0;
}
