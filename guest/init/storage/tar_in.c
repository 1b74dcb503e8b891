/* SPDX-License-Identifier: Apache-2.0 */
#include "tar_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cleanup.h"
#include "tar.h"

enum { CHUNK = 65536 };

/* A directory whose time is set when all is in it */
struct late {
	char *path;
	struct timespec mtime;
};

struct in {
	int fd, dir;
	struct late *late;
	size_t late_count;
	struct tar_entry entry;
	/* What headers before this one say of the entry */
	char name[PATH_MAX], link[PATH_MAX];
	size_t pax_len;
	char pax[TAR_PAX_MAX], chunk[CHUNK], path[PATH_MAX];
};

/* 1: len bytes; 0: the end, before any; -1 */
static int read_all(int fd, void *data, size_t len, struct error *error)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, (char *)data + got, len - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_sys(error, errno, "cannot read the archive");
		if (n == 0)
			return got ? error_set(error, KIND_INVALID, "the archive is cut off") : 0;
		got += (size_t)n;
	}
	return 1;
}

static int read_some(struct in *in, void *data, uint64_t len, struct error *error)
{
	int result = len ? read_all(in->fd, data, (size_t)len, error) : 1;

	return result == 0 ? error_set(error, KIND_INVALID, "the archive is cut off") : result;
}

static uint64_t padding(uint64_t size)
{
	return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

/* What follows a header, if it is to fit: with a zero behind it. */
static int read_body(struct in *in, char *body, size_t size, struct error *error)
{
	uint64_t len = in->entry.size;

	if (len >= size)
		return error_set(error, KIND_INVALID, "an extended header of the archive is too long");
	if (read_some(in, body, len, error) < 0 || read_some(in, in->chunk, padding(len), error) < 0)
		return -1;
	body[len] = '\0';
	return 0;
}

static int copy_data(struct in *in, int to, struct error *error)
{
	for (uint64_t left = in->entry.size; left > 0;) {
		size_t n = left < CHUNK ? (size_t)left : (size_t)CHUNK;

		if (read_some(in, in->chunk, n, error) < 0)
			return -1;
		for (size_t done = 0; to >= 0 && done < n;) {
			ssize_t written = write(to, in->chunk + done, n - done);

			if (written < 0 && errno != EINTR)
				return error_sys(error, errno, "cannot write %s", in->entry.path);
			done += written > 0 ? (size_t)written : 0;
		}
		left -= n;
	}
	return read_some(in, in->chunk, padding(in->entry.size), error);
}

/* A path of the archive without what means nothing in it. */
static int clean(const char *path, char out[PATH_MAX], struct error *error)
{
	size_t used = 0;

	while (*path) {
		size_t len = strcspn(path, "/");

		if (len == 2 && memcmp(path, "..", 2) == 0)
			return error_set(error, KIND_INVALID, "the archive has a path with \"..\"");
		if (len > 0 && !(len == 1 && *path == '.')) {
			if (used)
				out[used++] = '/';
			memcpy(out + used, path, len);
			used += len;
		}
		path += len + (path[len] == '/');
	}
	out[used] = '\0';
	return 0;
}

/* Goes to the directory of the path; its last part is in *name. Directories that the archive does not name are made. */
static int go_to(struct in *in, char *path, const char **name, struct error *error)
{
	char *slash;

	if (fchdir(in->dir) < 0)
		return error_sys(error, errno, "cannot enter the directory");
	while ((slash = strchr(path, '/'))) {
		*slash = '\0';
		if (chdir(path) < 0 && (errno != ENOENT || mkdir(path, 0755) < 0 || chdir(path) < 0))
			return error_sys(error, errno, "cannot enter %s of %s", path, in->entry.path);
		path = slash + 1;
	}
	*name = path;
	return 0;
}

/* 1: it is a directory, and is to be one. Everything else makes room. */
static int make_room(const struct in *in, const char *name, struct error *error)
{
	struct stat st;

	if (lstat(name, &st) < 0)
		return 0;
	if (S_ISDIR(st.st_mode) && in->entry.type == TAR_DIRECTORY)
		return 1;
	if (S_ISDIR(st.st_mode))
		return error_set(error, KIND_INVALID, "cannot overwrite directory %s with what is none", in->entry.path);
	return unlink(name) < 0 ? error_sys(error, errno, "cannot replace %s", in->entry.path) : 0;
}

static int make_link(struct in *in, const char *name, struct error *error)
{
	char link[PATH_MAX];

	if (clean(in->entry.link, link, error) < 0)
		return -1;
	if (linkat(in->dir, link, AT_FDCWD, name, 0) < 0)
		return error_sys(error, errno, "cannot link %s to %s", in->entry.path, in->entry.link);
	return 0;
}

static int make_file(struct in *in, const char *name, struct error *error)
{
	cleanup_close int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? error_sys(error, errno, "cannot create %s", in->entry.path) : copy_data(in, fd, error);
}

static int make_node(struct in *in, const char *name, bool there, struct error *error)
{
	const struct tar_entry *entry = &in->entry;
	int result;

	switch (entry->type) {
	case TAR_FILE:
		return make_file(in, name, error);
	case TAR_LINK:
		return make_link(in, name, error);
	case TAR_SYMLINK:
		result = symlink(entry->link, name);
		break;
	case TAR_DIRECTORY:
		result = there ? 0 : mkdir(name, 0700);
		break;
	case TAR_CHAR:
		result = mknod(name, S_IFCHR | 0600, makedev(entry->major, entry->minor));
		break;
	case TAR_BLOCK_DEVICE:
		result = mknod(name, S_IFBLK | 0600, makedev(entry->major, entry->minor));
		break;
	case TAR_FIFO:
		result = mkfifo(name, 0600);
		break;
	default:
		return error_set(error, KIND_INVALID, "%s is of an unknown type in the archive", entry->path);
	}
	return result < 0 ? error_sys(error, errno, "cannot create %s", entry->path) : 0;
}

/* What the file system has no place for, it does without. */
static int set_attributes(struct in *in, const char *name, struct error *error)
{
	const char *at = in->pax;
	size_t left = in->pax_len, prefix = strlen(TAR_XATTR);
	struct tar_record record;
	char key[XATTR_NAME_MAX + 1];

	while (tar_next_record(&at, &left, &record) > 0) {
		if (record.key_len <= prefix || record.key_len - prefix > XATTR_NAME_MAX || memcmp(record.key, TAR_XATTR, prefix) != 0)
			continue;
		memcpy(key, record.key + prefix, record.key_len - prefix);
		key[record.key_len - prefix] = '\0';
		if (lsetxattr(name, key, record.value, record.value_len, 0) < 0 && errno != EOPNOTSUPP)
			return error_sys(error, errno, "cannot set attribute %s of %s", key, in->entry.path);
	}
	return 0;
}

static int remember(struct in *in, struct error *error)
{
	struct late *late = reallocarray(in->late, in->late_count + 1, sizeof(*late));
	char *path = strdup(in->path);

	if (late)
		in->late = late;
	if (!late || !path) {
		free(path);
		return error_sys(error, ENOMEM, "cannot extract the archive");
	}
	late[in->late_count++] = (struct late){ .path = path, .mtime = in->entry.mtime };
	return 0;
}

static int set_properties(struct in *in, const char *name, struct error *error)
{
	const struct tar_entry *entry = &in->entry;
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, entry->mtime };

	if (entry->uid > UINT32_MAX - 1 || entry->gid > UINT32_MAX - 1)
		return error_set(error, KIND_INVALID, "%s has an owner that cannot be", entry->path);
	if (lchown(name, (uid_t)entry->uid, (gid_t)entry->gid) < 0 || (entry->type != TAR_SYMLINK && chmod(name, entry->mode) < 0))
		return error_sys(error, errno, "cannot set the owner and mode of %s", entry->path);
	if (set_attributes(in, name, error) < 0)
		return -1;
	if (utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_sys(error, errno, "cannot set the time of %s", entry->path);
	return 0;
}

static int extract(struct in *in, struct error *error)
{
	char path[PATH_MAX];
	const char *name = path;
	int there;

	if (clean(in->entry.path, in->path, error) < 0)
		return -1;
	strcpy(path, in->path);
	if (!*path && in->entry.type != TAR_DIRECTORY)
		return error_set(error, KIND_INVALID, "the archive has an entry without a name");
	/* The directory itself stays as it is. */
	if (!*path)
		return copy_data(in, -1, error);
	if (go_to(in, path, &name, error) < 0)
		return -1;
	there = make_room(in, name, error);
	if (there < 0 || make_node(in, name, there, error) < 0)
		return -1;
	/* Only a file's data are of any use, but the others' have to be read as well. */
	if (in->entry.type != TAR_FILE && copy_data(in, -1, error) < 0)
		return -1;
	if (in->entry.type == TAR_LINK)
		return 0;
	if (in->entry.type == TAR_DIRECTORY && remember(in, error) < 0)
		return -1;
	return set_properties(in, name, error);
}

static int apply_records(struct in *in, struct error *error)
{
	const char *at = in->pax;
	size_t left = in->pax_len;
	struct tar_record record;
	int found;

	if (*in->name)
		strcpy(in->entry.path, in->name);
	if (*in->link)
		strcpy(in->entry.link, in->link);
	while ((found = tar_next_record(&at, &left, &record)) > 0) {
		if (tar_apply_record(&record, &in->entry) < 0)
			found = -1;
		if (found < 0)
			break;
	}
	return found < 0 ? error_set(error, KIND_INVALID, "an extended header of the archive is broken, or not supported") : 0;
}

/* A header of what kind there is, and what belongs to it. */
static int read_entry(struct in *in, struct error *error)
{
	int result;

	switch (in->entry.type) {
	case TAR_PAX:
		result = read_body(in, in->pax, sizeof(in->pax), error);
		in->pax_len = result < 0 ? 0 : (size_t)in->entry.size;
		return result;
	case TAR_GNU_NAME:
		return read_body(in, in->name, sizeof(in->name), error);
	case TAR_GNU_LINK:
		return read_body(in, in->link, sizeof(in->link), error);
	case TAR_PAX_GLOBAL:
		return copy_data(in, -1, error);
	default:
		result = apply_records(in, error) < 0 || extract(in, error) < 0 ? -1 : 0;
		in->pax_len = 0;
		*in->name = *in->link = '\0';
		return result;
	}
}

static int read_entries(struct in *in, struct error *error)
{
	unsigned char block[TAR_BLOCK];
	int more;

	while ((more = read_all(in->fd, block, sizeof(block), error)) > 0) {
		int known = tar_read_header(block, &in->entry);

		if (known == 0)
			break;
		if (known < 0)
			return error_set(error, KIND_INVALID, "this is no tar archive, or a broken one");
		if (read_entry(in, error) < 0)
			return -1;
	}
	/* Whoever writes may have more, which means nothing, and is not to be cut off. */
	while (more > 0 && read(in->fd, in->chunk, sizeof(in->chunk)) > 0)
		;
	return more < 0 ? -1 : 0;
}

/* The last first: a directory comes before what is in it. */
static int set_times(struct in *in, struct error *error)
{
	for (size_t i = in->late_count; i-- > 0;) {
		struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, in->late[i].mtime };

		if (utimensat(in->dir, in->late[i].path, times, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			return error_sys(error, errno, "cannot set the time of %s", in->late[i].path);
	}
	return 0;
}

int tar_in(int dir, int fd, struct error *error)
{
	struct in *in = calloc(1, sizeof(*in));
	int result;

	if (!in)
		return error_sys(error, ENOMEM, "cannot extract the archive");
	in->fd = fd;
	in->dir = dir;
	result = read_entries(in, error) < 0 || set_times(in, error) < 0 ? -1 : 0;
	for (size_t i = 0; i < in->late_count; i++)
		free(in->late[i].path);
	free(in->late);
	free(in);
	return result;
}
