/* SPDX-License-Identifier: Apache-2.0 */
#include "layers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

#define PLACE "/run/layers"

enum {
	LAYERS_MAX = 64,
	PATH_SIZE = sizeof(PLACE) + 24,
	LOWER_SIZE = LAYERS_MAX * PATH_SIZE,
};

static int make_dir(const char *path, struct error *error)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? error_sys(error, errno, "cannot create %s", path) : 0;
}

static int mount_at(const char *source, const char *path, const char *type, unsigned long flags, const char *data, struct error *error)
{
	if (make_dir(path, error) < 0)
		return -1;
	return mount(source, path, type, flags, data) < 0 ? error_sys(error, errno, "cannot mount %s of the rootfs as %s", source, type) : 0;
}

/* The layers, each at a path of its own; lower gets the paths as overlayfs wants them, the uppermost first. */
static int mount_layers(const struct node *list, char lower[LOWER_SIZE], struct error *error)
{
	size_t used = 0;

	for (size_t i = array_len(list); i-- > 0;) {
		char path[PATH_SIZE];
		const char *source;

		if (array_str(list, i, &source, error) < 0)
			return -1;
		snprintf(path, sizeof(path), PLACE "/%zu", i);
		if (mount_at(source, path, "erofs", MS_RDONLY, NULL, error) < 0)
			return -1;
		used += (size_t)snprintf(lower + used, LOWER_SIZE - used, "%s%s", used ? ":" : "", path);
	}
	return 0;
}

/*
 * The root directory of the container is the upper one's, so that has to begin as the uppermost layer's is. Under another name until then: what is
 * called "upper" is complete, also after a power failure.
 */
static int make_upper(const struct node *list, struct error *error)
{
	char top[PATH_SIZE];
	struct stat st;

	if (faccessat(AT_FDCWD, PLACE "/upper/upper", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	snprintf(top, sizeof(top), PLACE "/%zu", array_len(list) - 1);
	if (make_dir(PLACE "/upper/new", error) < 0)
		return -1;
	if (stat(top, &st) < 0 || chown(PLACE "/upper/new", st.st_uid, st.st_gid) < 0 || chmod(PLACE "/upper/new", st.st_mode & 07777) < 0 ||
	    rename(PLACE "/upper/new", PLACE "/upper/upper") < 0)
		return error_sys(error, errno, "cannot prepare the writable layer of the rootfs");
	return 0;
}

static int mount_upper(const struct node *root, const struct node *list, struct error *error)
{
	const char *source = NULL;

	if (opt_str(root, "upper", &source, error) < 0)
		return -1;
	/* What is deleted in the container is to take no space on the host. */
	if (source ? mount_at(source, PLACE "/upper", "ext4", MS_NOATIME, "discard", error) < 0
		   : mount_at("tmpfs", PLACE "/upper", "tmpfs", 0, "mode=700", error) < 0)
		return -1;
	return make_dir(PLACE "/upper/work", error) < 0 ? -1 : make_upper(list, error);
}

int layers_mount(const struct node *root, const char *place, struct error *error)
{
	char lower[LOWER_SIZE] = "", data[LOWER_SIZE + 256];
	struct node list;

	if (opt_array(root, "layers", &list, error) < 0)
		return -1;
	if (array_len(&list) == 0 || array_len(&list) > LAYERS_MAX)
		return node_fail(root, "layers", error, "must have 1 to 64 entries");
	if (make_dir(PLACE, error) < 0 || mount_layers(&list, lower, error) < 0 || mount_upper(root, &list, error) < 0)
		return -1;
	/* The kernel's other ways to write a change down would not be understood by who makes an image of the upper layer. */
	snprintf(data, sizeof(data), "lowerdir=%s,upperdir=" PLACE "/upper/upper,workdir=" PLACE "/upper/work,redirect_dir=off,metacopy=off,index=off",
		 lower);
	if (mount("overlay", place, "overlay", 0, data) < 0)
		return error_sys(error, errno, "cannot lay the layers of the rootfs over each other");
	return 0;
}
