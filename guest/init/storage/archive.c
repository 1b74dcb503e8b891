/* SPDX-License-Identifier: Apache-2.0 */
#include "archive.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "tar_in.h"
#include "tar_out.h"

static const char *const words[] = { [ARCHIVE_GET] = "get", [ARCHIVE_PUT] = "put", [ARCHIVE_DIFF] = "diff" };

int archive_parse(const struct node *process, struct archive *archive, struct error *error)
{
	struct node node;
	const char *word;
	int found = opt_object(process, "archive", &node, error);

	*archive = (struct archive){ .kind = ARCHIVE_NONE, .path = "/" };
	if (found <= 0)
		return found;
	if (get_str(&node, "do", &word, error) < 0 || opt_str(&node, "path", &archive->path, error) < 0)
		return -1;
	for (enum archive_kind kind = ARCHIVE_GET; kind <= ARCHIVE_DIFF; kind++) {
		if (strcmp(word, words[kind]) == 0)
			archive->kind = kind;
	}
	if (archive->kind == ARCHIVE_NONE)
		return node_fail(&node, "do", error, "must be get, put or diff");
	if (archive->path[0] != '/' || strlen(archive->path) >= PATH_MAX)
		return node_fail(&node, "path", error, "must be an absolute path");
	return 0;
}

/* The file system of the upper layer once more, which the container has mounted: nowhere, and gone with the last descriptor of it. */
int archive_open_upper(const struct node *oci, struct error *error)
{
	cleanup_close int context = -1, mount = -1;
	const char *source = NULL;
	struct node root;
	int upper;

	if (opt_object(oci, "root", &root, error) < 0 || opt_str(&root, "upper", &source, error) < 0)
		return -1;
	if (!source)
		return error_set(error, KIND_UNSUPPORTED, "the root of the container has no writable layer on a disk");
	context = fsopen("ext4", FSOPEN_CLOEXEC);
	if (context < 0 || fsconfig(context, FSCONFIG_SET_STRING, "source", source, 0) < 0 ||
	    fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_sys(error, errno, "cannot open the writable layer");
	mount = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOATIME | MOUNT_ATTR_RDONLY);
	upper = mount >= 0 ? openat(mount, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	return upper >= 0 ? upper : error_sys(error, errno, "cannot open the writable layer");
}

static bool is_missing(const struct error *error)
{
	return error->errnum == ENOENT || error->errnum == ENOTDIR;
}

/* A path that ends in a slash, or a slash and a dot, is what it leads to; any other may be a link itself. */
static int get(const char *given, struct error *error)
{
	cleanup_close int dir = -1;
	char path[PATH_MAX], *slash;
	size_t len = strlen(given);
	bool follow = false;
	struct stat st;

	memcpy(path, given, len + 1);
	while (len > 0 && (path[len - 1] == '/' || (path[len - 1] == '.' && len > 1 && path[len - 2] == '/'))) {
		path[--len] = '\0';
		follow = true;
	}
	slash = strrchr(path, '/');
	if (follow) {
		dir = open(*path ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			return error_sys(error, errno, "cannot open %s", given);
		return *path ? tar_out(dir, ".", slash + 1, STDOUT_FILENO, error) : tar_out(dir, "", "", STDOUT_FILENO, error);
	}
	*slash = '\0';
	dir = open(*path ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fstatat(dir, slash + 1, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_sys(error, errno, "cannot open %s", given);
	return tar_out(dir, slash + 1, slash + 1, STDOUT_FILENO, error);
}

static int put(const char *path, struct error *error)
{
	cleanup_close int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 ? error_sys(error, errno, "cannot open %s", path) : tar_in(dir, STDIN_FILENO, error);
}

_Noreturn void archive_main(const struct archive *archive, const struct node *oci, int upper_fd)
{
	struct error error = { 0 };
	struct node mounts;
	int result;

	umask(0);
	if (archive->kind == ARCHIVE_GET)
		result = get(archive->path, &error);
	else if (archive->kind == ARCHIVE_PUT)
		result = put(archive->path, &error);
	else
		result = opt_array(oci, "mounts", &mounts, &error) < 0 ? -1 : tar_out_layer(upper_fd, &mounts, STDOUT_FILENO, &error);
	if (result == 0)
		_exit(0);
	dprintf(STDERR_FILENO, "%s\n", error.text);
	_exit(is_missing(&error) ? 2 : 1);
}
