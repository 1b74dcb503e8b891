/* SPDX-License-Identifier: Apache-2.0 */
#include "touch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "link.h"
#include "touch_order.h"

enum {
	FILES_MAX = 1024,
	HEADER = 2, /* of an order: its length */
	CHUNK = 16384,
	DESCRIPTORS = TOUCH_FOLDERS_MAX + FILES_MAX + 64,
};

/*
 * Linux's 9p makes a new inode each time it looks a name up that nobody holds: a watch would stay with the old one, and what is done by the name would
 * happen to another. So the folders are held, and as many of the files in them as there is room for.
 */
struct file {
	int fd; /* -1: the place is free */
	uint16_t folder;
	char *name;
};

struct toucher {
	struct buf *in;
	bool holds_files;
	int folders[TOUCH_FOLDERS_MAX]; /* O_PATH; -1: not there */
	struct file files[FILES_MAX];
};

static void file_drop(struct file *file)
{
	close(file->fd);
	free(file->name);
	*file = (struct file){ .fd = -1 };
}

static void hold_file(struct toucher *toucher, uint16_t folder, const char *name)
{
	struct file *file = toucher->files;

	while (file < toucher->files + FILES_MAX && file->fd >= 0)
		file++;
	if (!toucher->holds_files || file == toucher->files + FILES_MAX)
		return;
	file->name = strdup(name);
	file->fd = file->name ? openat(toucher->folders[folder], name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	file->folder = folder;
	if (file->fd < 0)
		free(file->name);
}

/* The file held under this name, or, without a name, any of the folder's. NULL: there is none. */
static struct file *held(struct toucher *toucher, uint16_t folder, const char *name)
{
	for (struct file *file = toucher->files; file < toucher->files + FILES_MAX; file++)
		if (file->fd >= 0 && file->folder == folder && (!name || strcmp(file->name, name) == 0))
			return file;
	return NULL;
}

static void hold_files(struct toucher *toucher, uint16_t folder)
{
	int fd = toucher->holds_files ? openat(toucher->folders[folder], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL)
		if (entry->d_type == DT_REG)
			hold_file(toucher, folder, entry->d_name);
}

static void forget(struct toucher *toucher, uint16_t id)
{
	struct file *file;

	while ((file = held(toucher, id, NULL)) != NULL)
		file_drop(file);
	if (toucher->folders[id] >= 0)
		close(toucher->folders[id]);
	toucher->folders[id] = -1;
}

/* One that is gone again already is simply not there: its orders do nothing. */
static void keep(struct toucher *toucher, uint16_t id, int base, const char *name)
{
	forget(toucher, id);
	/* O_DIRECTORY: what virtiofs knows to be a mount of the host's is mounted here only for who goes into it. */
	toucher->folders[id] = openat(base, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (toucher->folders[id] >= 0)
		hold_files(toucher, id);
	else if (errno == ENOTDIR)
		toucher->folders[id] = openat(base, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

/*
 * Without the time of reading, setting the time of change is IN_MODIFY to those who watch the file or its folder, and with it IN_ATTRIB. Neither reaches the
 * host's file, nor does anything else of it change.
 */
static void touch(int fd, bool content)
{
	struct timespec times[2] = { { .tv_sec = TOUCH_TIME, .tv_nsec = content ? UTIME_OMIT : 0 }, { .tv_sec = TOUCH_TIME } };

	(void)utimensat(fd, "", times, AT_EMPTY_PATH);
}

/* 9p drops what it has cached of a file, for those who map it, when nobody holds the file any more. This one we do hold. */
static void drop_cache(int fd)
{
	cleanup_close int file = -1;
	struct stat status;
	char path[32];

	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (file >= 0)
		(void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

static void touch_file(struct toucher *toucher, const struct touch_order *order)
{
	int folder = toucher->folders[order->id];
	bool changed = order->flags & (TOUCH_NEW | TOUCH_GONE);
	struct file *file = held(toucher, order->id, order->name);
	cleanup_close int fd = -1;

	if (folder < 0)
		return;
	if (file && changed)
		file_drop(file);
	else if (file && order->flags & TOUCH_CONTENT)
		drop_cache(file->fd);
	if (order->flags & TOUCH_GONE)
		touch(folder, true);
	if (order->name_len == 0) {
		if (toucher->holds_files && order->flags & TOUCH_CONTENT)
			drop_cache(folder);
		touch(folder, order->flags & TOUCH_CONTENT);
		return;
	}
	fd = openat(folder, order->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	if (changed)
		hold_file(toucher, order->id, order->name);
	touch(fd, order->flags & (TOUCH_CONTENT | TOUCH_NEW));
}

/* 0, or -1: the connection is of no use any more. */
static int obey(struct toucher *toucher, const uint8_t *data, size_t len)
{
	static const uint8_t synced[] = { 0, 1, TOUCH_SYNC };
	struct touch_order order;

	if (touch_order_read(data, len, &order) < 0)
		return -1;
	switch (order.kind) {
	case TOUCH_KEEP:
		if (toucher->folders[order.base] >= 0 && order.base != order.id)
			keep(toucher, order.id, toucher->folders[order.base], order.name);
		else
			forget(toucher, order.id);
		return 0;
	case TOUCH_FORGET:
		forget(toucher, order.id);
		return 0;
	case TOUCH_FILE:
		touch_file(toucher, &order);
		return 0;
	case TOUCH_SYNC:
		return send(LINK, synced, sizeof(synced), MSG_NOSIGNAL) == (ssize_t)sizeof(synced) ? 0 : -1;
	}
	return -1;
}

static int obey_all(struct toucher *toucher)
{
	struct buf *in = toucher->in;

	while (buf_len(in) >= HEADER) {
		const uint8_t *head = buf_head(in);
		size_t len = (size_t)head[0] << 8 | head[1];

		if (len > TOUCH_ORDER_MAX)
			return -1;
		if (buf_len(in) < HEADER + len)
			break;
		if (obey(toucher, head + HEADER, len) < 0)
			return -1;
		buf_consume(in, HEADER + len);
	}
	return 0;
}

static void serve(struct toucher *toucher)
{
	uint8_t chunk[CHUNK];
	ssize_t n;

	while (obey_all(toucher) == 0) {
		n = recv(LINK, chunk, sizeof(chunk), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || buf_append(toucher->in, chunk, (size_t)n, HEADER + TOUCH_ORDER_MAX + CHUNK) < 0)
			return;
	}
}

/* The share's own folder is nobody's file: what a server does with the time that no file has is tried on it. */
static int check_share(const char *path, struct error *error)
{
	cleanup_close int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat before, after;

	if (fd < 0 || fstat(fd, &before) < 0)
		return error_sys(error, errno, "cannot open share %s", path);
	touch(fd, true);
	if (fstatat(fd, "", &after, AT_EMPTY_PATH) < 0)
		return error_sys(error, errno, "cannot look at share %s", path);
	if (after.st_mtim.tv_sec == before.st_mtim.tv_sec && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec)
		return 0;
	(void)utimensat(fd, "", (struct timespec[]){ { .tv_nsec = UTIME_OMIT }, before.st_mtim }, AT_EMPTY_PATH);
	return error_set(error, KIND_UNSUPPORTED, "the server of share %s cannot touch files", path);
}

static int open_trees(struct toucher *toucher, const json_t *request, struct error *error)
{
	struct node root = { .json = request }, list;
	const char *path;

	if (get_str(&root, "share", &path, error) < 0 || check_share(path, error) < 0 ||
	    opt_bool(&root, "hold", &toucher->holds_files, error) < 0 || opt_array(&root, "trees", &list, error) < 0)
		return -1;
	if (array_len(&list) == 0 || array_len(&list) > TOUCH_TREES_MAX)
		return node_fail(&root, "trees", error, "must have 1 to 64 entries");
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_str(&list, i, &path, error) < 0)
			return -1;
		keep(toucher, (uint16_t)i, AT_FDCWD, path);
		if (toucher->folders[i] < 0)
			return error_sys(error, errno, "cannot open %s", path);
	}
	return 0;
}

static struct toucher *toucher_new(struct buf *in)
{
	struct toucher *toucher = calloc(1, sizeof(*toucher));

	if (!toucher)
		return NULL;
	toucher->in = in;
	for (size_t i = 0; i < TOUCH_FOLDERS_MAX; i++)
		toucher->folders[i] = -1;
	for (size_t i = 0; i < FILES_MAX; i++)
		toucher->files[i].fd = -1;
	return toucher;
}

void touch_run(struct buf *in)
{
	struct toucher *toucher = toucher_new(in);
	cleanup_json json_t *request = NULL;
	struct error error;

	prctl(PR_SET_NAME, "touch");
	(void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){ DESCRIPTORS, DESCRIPTORS });
	request = toucher && link_answer(json_pack("{s:{}}", "touch")) == 0 ? link_request(in) : NULL;
	if (!request)
		return;
	buf_consume(in, buf_len(in));
	if (open_trees(toucher, request, &error) < 0) {
		(void)link_answer(link_error(&error));
		return;
	}
	if (link_answer(json_pack("{s:{}}", "touching")) == 0 && link_block() == 0)
		serve(toucher);
}
