/* SPDX-License-Identifier: Apache-2.0 */
#include "tar_out.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cleanup.h"
#include "tar.h"

enum { DEPTH_MAX = 512, CHUNK = 65536, ID_DIGITS = 7, SIZE_DIGITS = 11 };

/* Not in the header, see ipc/mqueue.c of Linux */
#define MQUEUE_MAGIC 0x19800202

#define OVERLAY "trusted.overlay."

struct link {
	dev_t device;
	ino_t inode;
	char *path;
};

struct out {
	int fd;
	bool layer;
	const struct node *mounts; /* of a layer */
	struct link *links;
	size_t link_count;
	struct tar_entry entry, extended;
	char path[PATH_MAX];
	size_t pax_len;
	char pax[TAR_PAX_MAX], names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX], chunk[CHUNK];
};

static int write_all(int fd, const void *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data = (const char *)data + n;
		len -= (size_t)n;
	}
	return 0;
}

static int pad(struct out *out, uint64_t size)
{
	static const char zeros[TAR_BLOCK];

	return write_all(out->fd, zeros, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

static int add_record(struct out *out, const char *key, const void *value, size_t len)
{
	size_t left = sizeof(out->pax) - out->pax_len, used = tar_write_record(out->pax + out->pax_len, left, key, value, len);

	if (used > left) {
		errno = E2BIG;
		return -1;
	}
	out->pax_len += used;
	return 0;
}

static int add_number(struct out *out, const char *key, uint64_t number, size_t digits)
{
	char text[24];

	if (tar_number_fits(number, digits))
		return 0;
	return add_record(out, key, text, (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)number));
}

/* What does not fit into a header */
static int add_records(struct out *out, const struct tar_entry *entry)
{
	char text[48];

	if (!tar_name_fits(entry->path) && add_record(out, "path", entry->path, strlen(entry->path)) < 0)
		return -1;
	if (!tar_name_fits(entry->link) && add_record(out, "linkpath", entry->link, strlen(entry->link)) < 0)
		return -1;
	if (add_number(out, "uid", entry->uid, ID_DIGITS) < 0 || add_number(out, "gid", entry->gid, ID_DIGITS) < 0 ||
	    add_number(out, "size", entry->size, SIZE_DIGITS) < 0)
		return -1;
	if (entry->mtime.tv_sec >= 0 && entry->mtime.tv_nsec == 0)
		return 0;
	snprintf(text, sizeof(text), "%lld.%09ld", (long long)entry->mtime.tv_sec, entry->mtime.tv_nsec);
	return add_record(out, "mtime", text, strlen(text));
}

static int write_header(struct out *out, const struct tar_entry *entry)
{
	unsigned char block[TAR_BLOCK];

	if (out->pax_len > 0) {
		out->extended = (struct tar_entry){ .type = TAR_PAX, .path = "PaxHeaders/entry", .mode = 0644, .size = out->pax_len };
		tar_write_header(&out->extended, block);
		if (write_all(out->fd, block, sizeof(block)) < 0 || write_all(out->fd, out->pax, out->pax_len) < 0 || pad(out, out->pax_len) < 0)
			return -1;
		out->pax_len = 0;
	}
	tar_write_header(entry, block);
	return write_all(out->fd, block, sizeof(block));
}

/* The attributes of what is called name in the working directory. 1: it is an opaque directory. */
static int add_attributes(struct out *out, const char *name)
{
	ssize_t length = llistxattr(name, out->names, sizeof(out->names));
	char key[sizeof(TAR_XATTR) + XATTR_NAME_MAX];
	int opaque = 0;

	if (length < 0)
		return errno == EOPNOTSUPP ? 0 : -1;
	for (const char *attribute = out->names; attribute < out->names + length; attribute += strlen(attribute) + 1) {
		ssize_t size = lgetxattr(name, attribute, out->value, sizeof(out->value));

		if (size < 0 && errno == ENODATA)
			continue;
		if (size < 0)
			return -1;
		if (strncmp(attribute, OVERLAY, strlen(OVERLAY)) == 0) {
			opaque |= strcmp(attribute, OVERLAY "opaque") == 0 && size == 1 && *out->value == 'y';
			continue;
		}
		snprintf(key, sizeof(key), TAR_XATTR "%.255s", attribute);
		if (add_record(out, key, out->value, (size_t)size) < 0)
			return -1;
	}
	return opaque;
}

static int write_plain(struct out *out, const char *path, const struct timespec *mtime)
{
	out->entry = (struct tar_entry){ .type = TAR_FILE, .mtime = *mtime };
	snprintf(out->entry.path, sizeof(out->entry.path), "%s", path);
	return add_records(out, &out->entry) < 0 ? -1 : write_header(out, &out->entry);
}

static int write_whiteout(struct out *out, const char *name, const struct stat *st)
{
	char path[PATH_MAX + 8];
	size_t folder = strlen(out->path) - strlen(name);

	snprintf(path, sizeof(path), "%.*s.wh.%s", (int)folder, out->path, name);
	return write_plain(out, path, &st->st_mtim);
}

/* As many bytes as the header has said, whatever happens to the file meanwhile. */
static int write_data(struct out *out, int fd, uint64_t size)
{
	for (uint64_t left = size; left > 0;) {
		ssize_t n = read(fd, out->chunk, left < CHUNK ? (size_t)left : (size_t)CHUNK);

		if (n < 0 && errno != EINTR)
			return -1;
		if (n == 0) {
			n = (ssize_t)(left < CHUNK ? left : CHUNK);
			memset(out->chunk, 0, (size_t)n);
		}
		if (n > 0 && write_all(out->fd, out->chunk, (size_t)n) < 0)
			return -1;
		left -= n > 0 ? (uint64_t)n : 0;
	}
	return pad(out, size);
}

/* The path under which another name of the file is in the archive already; NULL: this is the first. */
static const char *known_as(const struct out *out, const struct stat *st)
{
	for (size_t i = 0; i < out->link_count; i++) {
		if (out->links[i].device == st->st_dev && out->links[i].inode == st->st_ino)
			return out->links[i].path;
	}
	return NULL;
}

static int remember(struct out *out, const struct stat *st)
{
	struct link *links = reallocarray(out->links, out->link_count + 1, sizeof(*links));

	if (!links)
		return -1;
	out->links = links;
	links[out->link_count] = (struct link){ .device = st->st_dev, .inode = st->st_ino, .path = strdup(out->path) };
	return links[out->link_count].path ? (out->link_count++, 0) : -1;
}

static char type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return TAR_DIRECTORY;
	case S_IFLNK:
		return TAR_SYMLINK;
	case S_IFCHR:
		return TAR_CHAR;
	case S_IFBLK:
		return TAR_BLOCK_DEVICE;
	case S_IFIFO:
		return TAR_FIFO;
	default:
		return TAR_FILE;
	}
}

static int describe(struct out *out, const char *name, const struct stat *st)
{
	struct tar_entry *entry = &out->entry;
	const char *first = !S_ISDIR(st->st_mode) && st->st_nlink > 1 ? known_as(out, st) : NULL;
	ssize_t n = 0;

	*entry = (struct tar_entry){ .type = type_of(st->st_mode), .mode = st->st_mode & 07777, .uid = st->st_uid, .gid = st->st_gid,
				     .mtime = st->st_mtim };
	/* There is room for one more, see write_below. */
	strcpy(entry->path, out->path);
	if (S_ISDIR(st->st_mode))
		strcat(entry->path, "/");
	if (S_ISREG(st->st_mode))
		entry->size = (uint64_t)st->st_size;
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		entry->major = major(st->st_rdev);
		entry->minor = minor(st->st_rdev);
	}
	if (first) {
		entry->type = TAR_LINK;
		entry->size = 0;
		snprintf(entry->link, sizeof(entry->link), "%s", first);
	} else if (S_ISLNK(st->st_mode)) {
		n = readlink(name, entry->link, sizeof(entry->link) - 1);
		entry->link[n > 0 ? n : 0] = '\0';
	} else if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
		n = remember(out, st);
	}
	return n < 0 ? -1 : 0;
}

static int write_tree(struct out *out, int dir, int depth);

/* What the kernel makes up is no file of anybody's, and some of it cannot be read. */
static bool is_made_up(int fd)
{
	static const unsigned int kinds[] = { PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, MQUEUE_MAGIC, DEBUGFS_MAGIC };
	struct statfs fs;

	for (size_t i = 0; fstatfs(fd, &fs) == 0 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if ((unsigned int)fs.f_type == kinds[i])
			return true;
	}
	return false;
}

static int write_directory(struct out *out, int dir, const char *name, bool opaque, const struct timespec *mtime, int depth)
{
	cleanup_close int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char path[PATH_MAX + 32];

	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if (is_made_up(fd))
		return 0;
	snprintf(path, sizeof(path), "%s/.wh..wh..opq", out->path);
	if (out->layer && opaque && write_plain(out, path, mtime) < 0)
		return -1;
	return write_tree(out, fd, depth + 1);
}

static bool is_destination(const struct out *out)
{
	for (size_t i = 0; i < array_len(out->mounts); i++) {
		const char *path = json_string_value(json_object_get(json_array_get(out->mounts->json, i), "destination"));
		size_t len = strlen(out->path);

		path += path ? strspn(path, "/") : 0;
		if (path && strncmp(path, out->path, len) == 0 && path[len + strspn(path + len, "/")] == '\0')
			return true;
	}
	return false;
}

static bool is_empty(const char *name)
{
	int fd = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), count = 0;
	cleanup_dir DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;

	while (stream && readdir(stream))
		count++;
	return count <= 2;
}

/* Of what is called name in the working directory: whether the runtime made it, to mount on. */
static bool is_mount_point(const struct out *out, const char *name, const struct stat *st)
{
	if (!out->layer || !is_destination(out))
		return false;
	return (S_ISREG(st->st_mode) && st->st_size == 0) || (S_ISDIR(st->st_mode) && is_empty(name));
}

/* One entry and all below it. What has gone meanwhile is not there. */
static int write_entry(struct out *out, int dir, const char *name, int depth)
{
	cleanup_close int fd = -1;
	struct stat st;
	int opaque;

	if (fchdir(dir) < 0)
		return -1;
	if (lstat(name, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	if (S_ISSOCK(st.st_mode) || is_mount_point(out, name, &st))
		return 0;
	if (out->layer && S_ISCHR(st.st_mode) && st.st_rdev == 0)
		return write_whiteout(out, name, &st);
	if (S_ISREG(st.st_mode)) {
		fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			return errno == ENOENT ? 0 : -1;
	}
	if (describe(out, name, &st) < 0)
		return -1;
	opaque = out->entry.type == TAR_LINK ? 0 : add_attributes(out, name);
	if (opaque < 0 || add_records(out, &out->entry) < 0 || write_header(out, &out->entry) < 0)
		return -1;
	if (out->entry.type == TAR_FILE && S_ISREG(st.st_mode))
		return write_data(out, fd, out->entry.size);
	return S_ISDIR(st.st_mode) ? write_directory(out, dir, name, opaque, &st.st_mtim, depth) : 0;
}

static int write_below(struct out *out, int dir, const char *name, int depth)
{
	size_t used = strlen(out->path);
	int result;

	if (used + strlen(name) + 2 >= sizeof(out->path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	snprintf(out->path + used, sizeof(out->path) - used, "%s%s", used ? "/" : "", name);
	result = write_entry(out, dir, name, depth);
	/* Where it went wrong is to be told. */
	if (result == 0)
		out->path[used] = '\0';
	return result;
}

static int write_tree(struct out *out, int dir, int depth)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
	cleanup_dir DIR *stream = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *entry;

	if (!stream)
		return -1;
	if (depth > DEPTH_MAX) {
		errno = ELOOP;
		return -1;
	}
	while (result == 0 && (entry = readdir(stream))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			result = write_below(out, dir, entry->d_name, depth);
	}
	return result;
}

static int finish(struct out *out, int result, struct error *error)
{
	static const char end[2 * TAR_BLOCK];

	if (result == 0)
		result = write_all(out->fd, end, sizeof(end));
	if (result < 0)
		error_sys(error, errno, "cannot archive %s", *out->path ? out->path : "/");
	for (size_t i = 0; i < out->link_count; i++)
		free(out->links[i].path);
	free(out->links);
	free(out);
	return result;
}

static struct out *begin(int fd, bool layer, struct error *error)
{
	struct out *out = calloc(1, sizeof(*out));

	if (!out) {
		error_sys(error, ENOMEM, "cannot archive");
		return NULL;
	}
	out->fd = fd;
	out->layer = layer;
	return out;
}

int tar_out(int dir, const char *name, const char *prefix, int fd, struct error *error)
{
	struct out *out = begin(fd, false, error);

	if (!out)
		return -1;
	if (!*name)
		return finish(out, write_tree(out, dir, 0), error);
	snprintf(out->path, sizeof(out->path), "%s", prefix);
	return finish(out, write_entry(out, dir, name, 0), error);
}

int tar_out_layer(int upper, const struct node *mounts, int fd, struct error *error)
{
	struct out *out = begin(fd, true, error);

	if (out)
		out->mounts = mounts;
	return out ? finish(out, write_tree(out, upper, 0), error) : -1;
}
