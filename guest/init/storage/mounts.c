/* SPDX-License-Identifier: Apache-2.0 */
/* OCI's list of mounts, in its order. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "container.h"
#include "id_maps.h"
#include "inroot.h"
#include "mounts.h"
#include "rootfs.h"
#include "volume.h"

int mount_set_attr(int fd, const struct mount_options *options)
{
	struct mount_attr one = { .attr_set = options->set, .attr_clr = options->clear };
	struct mount_attr ids = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)options->id_namespace };
	struct mount_attr all = { .attr_set = options->all_set, .attr_clr = options->all_clear };

	if (options->idmap && mount_setattr(fd, "", AT_EMPTY_PATH, &ids, sizeof(ids)) < 0)
		return -1;
	if ((one.attr_set || one.attr_clr) && mount_setattr(fd, "", AT_EMPTY_PATH, &one, sizeof(one)) < 0)
		return -1;
	if ((all.attr_set || all.attr_clr) && mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &all, sizeof(all)) < 0)
		return -1;
	for (unsigned int i = 0; i < options->propagation_count; i++) {
		struct mount_attr attr = { .propagation = options->propagation[i] & ~(unsigned long)MS_REC };
		unsigned int flags = AT_EMPTY_PATH | (options->propagation[i] & MS_REC ? AT_RECURSIVE : 0);

		if (mount_setattr(fd, "", flags, &attr, sizeof(attr)) < 0)
			return -1;
	}
	return 0;
}

int mount_fail(const struct mount_request *request, int errnum, struct error *error)
{
	if (errnum == ENODEV && !request->options.bind)
		return error_set(error, KIND_UNSUPPORTED, "cannot mount %s at %s: the guest's kernel has no such file system", request->type,
				 request->destination);
	return error_sys(error, errnum, "cannot mount %s at %s", request->options.bind ? request->source : request->type,
			 request->destination);
}

static bool is_same(int fd, int other)
{
	struct stat one, two;

	return fstat(fd, &one) == 0 && fstat(other, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

/*
 * The mount point, which must not be the root itself: what is mounted there would hide the container and not be hidden by it. On a share each look at a
 * file is a question to the host, so where the path itself says it nobody looks.
 */
int mount_target(int root_fd, const struct mount_request *request, bool directory, struct error *error)
{
	cleanup_close int fd = -1;
	int below = inroot_open_below(root_fd, request->destination);

	if (below >= 0)
		return below;
	fd = inroot_mount_point(root_fd, request->destination, directory, error);
	if (fd < 0)
		return -1;
	below = inroot_open_below(root_fd, request->destination);
	if (below >= 0)
		return below;
	if (is_same(root_fd, fd))
		return error_set(error, KIND_INVALID, "cannot mount at %s: it is the root", request->destination);
	return steal_fd(&fd);
}

/* The attributes are set before the mount is seen anywhere. */
static int bind_path(struct rootfs *rootfs, const struct mount_request *request, const char *source, struct error *error)
{
	unsigned int flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (request->options.recursive ? AT_RECURSIVE : 0);
	cleanup_close int tree = -1, target = -1;
	struct stat st;

	tree = open_tree(AT_FDCWD, source, flags);
	if (tree < 0 || fstat(tree, &st) < 0)
		return mount_fail(request, errno, error);
	target = mount_target(rootfs->root_fd, request, S_ISDIR(st.st_mode), error);
	if (target < 0)
		return -1;
	if (mount_set_attr(tree, &request->options) < 0 || mount_attach(tree, target) < 0)
		return mount_fail(request, errno, error);
	return 0;
}

int mount_file_system(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	if (mount(source, target, type, flags, data) == 0)
		return 0;
	/* A disk that cannot be written to: as mount(8) does, and nobody finds out but who writes. */
	if (errno == EROFS && !(flags & MS_RDONLY))
		return mount(source, target, type, flags | MS_RDONLY, data);
	/* A disk that is mounted elsewhere to be written to: read-only it can only be as a mount, not as a file system. */
	if (errno != EBUSY || !(flags & MS_RDONLY))
		return -1;
	return mount(source, target, type, flags & ~(unsigned long)MS_RDONLY, data) < 0 ? -1 : 1;
}

static int mount_new(struct rootfs *rootfs, const struct mount_request *request, const char *type, struct error *error)
{
	const struct mount_options *options = &request->options;
	struct mount_options rest = *options;
	cleanup_close int target = -1, mounted = -1;
	/* Read-only comes after the copying. */
	bool fills = options->copy_up || options->populate;
	unsigned long flags = fills ? options->flags & ~(unsigned long)MS_RDONLY : options->flags;
	char path[64];
	int result;

	/* What mount(2) does need not be done again, and could be refused. */
	rest.clear = 0;
	rest.set = options->set & (MOUNT_ATTR_NOSYMFOLLOW | (fills ? MOUNT_ATTR_RDONLY : 0));
	/* Of a part, or with other ids, it is a copy of the mount that is attached. */
	if (options->subpath || options->idmap)
		return volume_mount_part(rootfs->root_fd, request, flags, &rest, error);
	target = mount_target(rootfs->root_fd, request, true, error);
	if (target < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", target);
	result = mount_file_system(request->source, path, type, flags, options->data);
	if (result < 0)
		return mount_fail(request, errno, error);
	mounted = inroot_open(rootfs->root_fd, request->destination, O_PATH);
	if (mounted < 0)
		return mount_fail(request, errno, error);
	if (volume_grow(request, mounted, error) < 0 || volume_prepare(request, target, mounted, error) < 0)
		return -1;
	if (result > 0)
		rest.set |= options->set & MOUNT_ATTR_RDONLY;
	return mount_set_attr(mounted, &rest) < 0 ? mount_fail(request, errno, error) : 0;
}

/* A bind's own flags, or those and the options of the file system that is mounted there. */
static int remount(struct rootfs *rootfs, const struct mount_request *request, struct error *error)
{
	const struct mount_options *options = &request->options;
	cleanup_close int mounted = inroot_open(rootfs->root_fd, request->destination, O_PATH);
	char path[64];

	if (mounted < 0)
		return error_sys(error, errno, "cannot remount %s", request->destination);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", mounted);
	if ((!options->bind && mount(NULL, path, NULL, MS_REMOUNT | options->flags, options->data) < 0) || mount_set_attr(mounted, options) < 0)
		return error_sys(error, errno, "cannot remount %s", request->destination);
	return 0;
}

/* Both types mean the container's cgroup v2. */
static int mount_cgroup(struct rootfs *rootfs, struct mount_request *request, struct error *error)
{
	const struct container *container = rootfs->spawn->container;
	char path[sizeof(CGROUP_PARENT) + 160];

	/* The words for v1's hierarchies mean nothing here. */
	request->options.data[0] = '\0';
	if (container->namespaces & CLONE_NEWCGROUP && mount_new(rootfs, request, "cgroup2", error) == 0)
		return 0;
	if (container->namespaces & CLONE_NEWCGROUP && error->errnum != EPERM && error->errnum != EBUSY)
		return -1;
	/* Without a namespace of its own the container would see all cgroups of the guest. */
	snprintf(path, sizeof(path), CGROUP_PARENT "/%s", container->group);
	return bind_path(rootfs, request, path, error);
}

/* In a user namespace only its own network namespace's sysfs can be mounted, and the network is the sandbox's: the guest's serves, unwritable. */
static int mount_sysfs(struct rootfs *rootfs, struct mount_request *request, struct error *error)
{
	if (mount_new(rootfs, request, "sysfs", error) == 0)
		return 0;
	if (error->errnum != EPERM)
		return -1;
	request->options.recursive = true;
	request->options.all_set |= MOUNT_ATTR_RDONLY;
	return bind_path(rootfs, request, "/sys", error);
}

static int apply_one(struct rootfs *rootfs, struct mount_request *request, struct error *error)
{
	const char *type = request->type;

	if (request->options.remount)
		return remount(rootfs, request, error);
	if (request->options.bind) {
		if (request->source[0] != '/')
			return error_set(error, KIND_INVALID, "the source of a bind mount must be an absolute path of the guest, not \"%s\"",
					 request->source);
		if (request->options.subpath)
			return volume_bind_part(rootfs->root_fd, request, error);
		return bind_path(rootfs, request, request->source, error);
	}
	if (strcmp(type, "cgroup") == 0 || strcmp(type, "cgroup2") == 0)
		return mount_cgroup(rootfs, request, error);
	if (strcmp(type, "sysfs") == 0)
		return mount_sysfs(rootfs, request, error);
	if (!*type)
		return error_set(error, KIND_INVALID, "the mount at %s has no type", request->destination);
	return mount_new(rootfs, request, type, error);
}

int mount_parse(const struct node *entry, struct mount_request *request, struct error *error)
{
	request->source = "none";
	request->type = "";
	if (get_str(entry, "destination", &request->destination, error) < 0 || opt_str(entry, "source", &request->source, error) < 0 ||
	    opt_str(entry, "type", &request->type, error) < 0)
		return -1;
	if (strlen(request->destination) >= PATH_MAX)
		return node_fail(entry, "destination", error, "is too long");
	if (mount_options_parse(entry, &request->options, error) < 0)
		return -1;
	request->options.idmap = json_array_size(json_object_get(entry->json, "uidMappings")) > 0;
	if (request->options.idmap && (request->options.bind || request->options.remount || request->options.copy_up || request->source[0] != '/'))
		return error_set(error, KIND_UNSUPPORTED, "id-mapped mounts are supported of disks only");
	return 0;
}

static bool is_dev(const char *path)
{
	path += strspn(path, "/");
	return strncmp(path, "dev", 3) == 0 && strspn(path + 3, "/") == strlen(path + 3);
}

int mounts_apply(struct rootfs *rootfs, struct error *error)
{
	struct node list, entry;

	if (opt_array(rootfs->oci, "mounts", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		struct mount_request request;
		cleanup_close int ids = -1;

		if (array_object(&list, i, &entry, error) < 0 || mount_parse(&entry, &request, error) < 0)
			return -1;
		if (request.options.idmap && (ids = id_maps_namespace(&entry, error)) < 0)
			return -1;
		request.options.id_namespace = ids;
		if (apply_one(rootfs, &request, error) < 0)
			return -1;
		rootfs->own_dev |= request.options.bind && is_dev(request.destination);
	}
	return 0;
}
