/* SPDX-License-Identifier: Apache-2.0 */
#include "watch_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	NONE = UINT16_MAX,
	INSIDE = IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO,
	ITSELF = IN_DELETE_SELF | IN_MOVE_SELF,
	ORDERS_MAX = 4 << 20,
	READ_SIZE = 65536,
};

int tree_init(struct tree *tree, unsigned int most)
{
	tree->most = most;
	tree->first = tree->last = NONE;
	tree->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (tree->inotify < 0)
		return -errno;
	for (unsigned int i = 0; i < TOUCH_FOLDERS_MAX; i++)
		tree->folders[i] = (struct folder){ .wd = -1, .next = (uint16_t)(i + 1 < most ? i + 1 : NONE) };
	return 0;
}

void tree_fini(struct tree *tree)
{
	for (unsigned int i = 0; i < tree->roots; i++)
		close(tree->root_fds[i]);
	for (unsigned int i = 0; i < TOUCH_FOLDERS_MAX; i++)
		free(tree->folders[i].name);
	for (size_t i = 0; i < tree->happened_count; i++)
		free(tree->happened[i].name);
	buf_free(&tree->orders);
	close(tree->inotify);
}

void tree_order(struct tree *tree, const struct touch_order *order)
{
	uint8_t packet[2 + TOUCH_ORDER_MAX];
	size_t len = touch_order_write(order, packet + 2);

	packet[0] = (uint8_t)(len >> 8);
	packet[1] = (uint8_t)len;
	if (buf_append(&tree->orders, packet, 2 + len, ORDERS_MAX) < 0)
		tree->broken = true;
}

static struct touch_order named(enum touch_kind kind, uint16_t id, const char *name)
{
	struct touch_order order = { .kind = kind, .id = id, .name_len = strlen(name) };

	memcpy(order.name, name, order.name_len);
	return order;
}

void tree_flush(struct tree *tree)
{
	for (size_t i = 0; i < tree->happened_count; i++) {
		struct happened *it = &tree->happened[i];
		struct touch_order order = named(TOUCH_FILE, it->id, it->name);

		order.flags = it->flags;
		tree_order(tree, &order);
		free(it->name);
	}
	tree->happened_count = 0;
}

static void happen(struct tree *tree, uint16_t id, const char *name, uint8_t flags)
{
	struct happened *it = tree->happened, *end = it + tree->happened_count;

	while (it < end && (it->id != id || strcmp(it->name, name) != 0))
		it++;
	if (it < end) {
		it->flags |= flags;
		return;
	}
	if (tree->happened_count == PENDING_FILES_MAX)
		tree_flush(tree);
	it = &tree->happened[tree->happened_count];
	*it = (struct happened){ .id = id, .flags = flags, .name = strdup(name) };
	if (it->name == NULL)
		tree->broken = true;
	else
		tree->happened_count++;
}

/* The path of a folder from its tree's root; the root itself is ".". 0 or -ENAMETOOLONG */
static int path_of(const struct tree *tree, uint16_t id, uint16_t *root, char *path)
{
	size_t at = PATH_MAX - 1;

	path[at] = '\0';
	for (; tree->folders[id].parent != NONE; id = tree->folders[id].parent) {
		size_t len = strlen(tree->folders[id].name);

		if (at < len + 1)
			return -ENAMETOOLONG;
		at -= len;
		memcpy(path + at, tree->folders[id].name, len);
		path[--at] = '/';
	}
	*root = id;
	if (path[at] == '\0')
		strcpy(path, ".");
	else
		memmove(path, path + at + 1, PATH_MAX - at - 1);
	return 0;
}

/* The guest may have put links anywhere in its folders: none is followed, so that it hears of nothing else. A descriptor or -errno */
static int folder_open(const struct tree *tree, uint16_t id, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW), .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
	char path[PATH_MAX];
	uint16_t root;
	int fd = path_of(tree, id, &root, path);

	if (fd < 0)
		return fd;
	if (strcmp(path, ".") == 0 && !(flags & O_DIRECTORY))
		fd = fcntl(tree->root_fds[root], F_DUPFD_CLOEXEC, 0);
	else
		fd = (int)syscall(SYS_openat2, tree->root_fds[root], path, &how, sizeof(how));
	return fd < 0 ? -errno : fd;
}

static bool is_watched(const struct tree *tree, int wd)
{
	for (uint16_t id = 0; id < tree->most; id++)
		if (tree->folders[id].wd == wd)
			return true;
	return false;
}

static void folder_free(struct tree *tree, uint16_t id)
{
	struct folder *folder = &tree->folders[id];

	free(folder->name);
	*folder = (struct folder){ .wd = -1, .next = tree->free };
	tree->free = id;
}

/* What was gathered about it is of a folder that is no more. */
static void folder_remove(struct tree *tree, uint16_t id)
{
	int wd = tree->folders[id].wd;
	size_t kept = 0;

	for (size_t i = 0; i < tree->happened_count; i++) {
		if (tree->happened[i].id == id)
			free(tree->happened[i].name);
		else
			tree->happened[kept++] = tree->happened[i];
	}
	tree->happened_count = kept;
	folder_free(tree, id);
	if (!is_watched(tree, wd))
		(void)inotify_rm_watch(tree->inotify, wd);
	tree_order(tree, &(struct touch_order){ .kind = TOUCH_FORGET, .id = id });
}

static uint16_t folder_below(const struct tree *tree, uint16_t parent, const char *name)
{
	for (uint16_t id = 0; id < tree->most; id++)
		if (tree->folders[id].wd >= 0 && tree->folders[id].parent == parent && (name == NULL || strcmp(tree->folders[id].name, name) == 0))
			return id;
	return NONE;
}

/* The deepest first, so that each can still say where it is. */
static void remove_with_all_below(struct tree *tree, uint16_t id)
{
	for (;;) {
		uint16_t deepest = id, below;

		while ((below = folder_below(tree, deepest, NULL)) != NONE)
			deepest = below;
		folder_remove(tree, deepest);
		if (deepest == id)
			return;
	}
}

/* The watch of one that has its number already. 0 or -errno */
static int folder_watch(struct tree *tree, uint16_t id, uint32_t mask)
{
	char link[32];
	int fd = folder_open(tree, id, O_PATH | (tree->folders[id].parent != NONE ? O_DIRECTORY : 0)), wd;

	if (fd < 0)
		return fd;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	wd = inotify_add_watch(tree->inotify, link, mask);
	if (wd < 0)
		wd = -errno;
	close(fd);
	if (wd < 0)
		return wd;
	tree->folders[id].wd = wd;
	return 0;
}

/* Its number, or -errno */
static int folder_new(struct tree *tree, uint16_t parent, const char *name, uint32_t mask)
{
	uint16_t id = tree->free;
	struct folder *folder;
	int ret;

	if (id == NONE)
		return -ENOSPC;
	folder = &tree->folders[id];
	tree->free = folder->next;
	folder->parent = parent;
	folder->name = strdup(name);
	ret = folder->name == NULL ? -ENOMEM : folder_watch(tree, id, mask);
	if (ret < 0) {
		folder_free(tree, id);
		return ret;
	}
	return id;
}

static bool is_folder(const struct dirent *entry, int dir)
{
	struct stat status;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR;
	return fstatat(dir, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static void look_later(struct tree *tree, uint16_t id)
{
	tree->folders[id].next = NONE;
	if (tree->first == NONE)
		tree->first = id;
	else
		tree->folders[tree->last].next = id;
	tree->last = id;
}

static void find_folder(struct tree *tree, uint16_t parent, const char *name)
{
	int id = folder_below(tree, parent, name) == NONE ? folder_new(tree, parent, name, INSIDE | IN_ONLYDIR) : -EEXIST;
	struct touch_order order;

	if (id == -ENOSPC)
		tree->full = true;
	if (id < 0)
		return;
	order = named(TOUCH_KEEP, (uint16_t)id, name);
	order.base = parent;
	tree_order(tree, &order);
	look_later(tree, (uint16_t)id);
}

/* news: its files are to be told of, since they may be older than its watch. */
static void look_below(struct tree *tree, uint16_t id, bool news)
{
	int fd = folder_open(tree, id, O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (is_folder(entry, fd))
			find_folder(tree, id, entry->d_name);
		else if (news)
			happen(tree, id, entry->d_name, TOUCH_NEW);
	}
	closedir(dir);
}

static void look_into_all(struct tree *tree, bool news)
{
	while (tree->first != NONE) {
		uint16_t id = tree->first;

		tree->first = tree->folders[id].next;
		look_below(tree, id, news);
	}
}

int tree_add(struct tree *tree, const char *path)
{
	struct stat status;
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), id;

	if (fd < 0)
		return -errno;
	if (tree->roots == TOUCH_TREES_MAX || fstat(fd, &status) < 0) {
		close(fd);
		return tree->roots == TOUCH_TREES_MAX ? -E2BIG : -errno;
	}
	tree->root_fds[tree->roots++] = fd;
	/* The first ones: their numbers are 0, 1, ... */
	id = folder_new(tree, NONE, "", S_ISDIR(status.st_mode) ? INSIDE | IN_ONLYDIR : IN_MODIFY | IN_ATTRIB | ITSELF);
	return id < 0 ? id : 0;
}

void tree_scan(struct tree *tree)
{
	for (uint16_t id = 0; id < tree->roots; id++)
		look_below(tree, id, false);
	look_into_all(tree, false);
}

/* Some events were lost: every folder may have changed. */
static void look_again(struct tree *tree)
{
	for (uint16_t id = 0; id < tree->most; id++) {
		if (tree->folders[id].wd < 0)
			continue;
		happen(tree, id, "", TOUCH_CONTENT);
		look_below(tree, id, false);
	}
	look_into_all(tree, true);
}

static uint8_t flags_of(uint32_t mask)
{
	uint8_t flags = 0;

	if (mask & IN_MODIFY)
		flags |= TOUCH_CONTENT;
	if (mask & IN_ATTRIB)
		flags |= TOUCH_ATTRIBUTES;
	if (mask & (IN_CREATE | IN_MOVED_TO))
		flags |= TOUCH_NEW;
	if (mask & (IN_DELETE | IN_MOVED_FROM))
		flags |= TOUCH_GONE;
	/* A file that is shared alone has lost its name, which is one link less. */
	if (mask & ITSELF)
		flags |= TOUCH_ATTRIBUTES;
	return flags;
}

static void folder_event(struct tree *tree, uint16_t id, const struct inotify_event *event)
{
	const char *name = event->len > 0 ? event->name : "";
	uint16_t below;

	/* What happens to a folder itself its parent tells too. */
	if (*name == '\0' && tree->folders[id].parent != NONE)
		return;
	if (flags_of(event->mask) != 0)
		happen(tree, id, name, flags_of(event->mask));
	if (!(event->mask & IN_ISDIR) || *name == '\0')
		return;
	if (event->mask & (IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_MOVED_TO)) {
		below = folder_below(tree, id, name);
		if (below != NONE)
			remove_with_all_below(tree, below);
	}
	if (event->mask & (IN_CREATE | IN_MOVED_TO))
		find_folder(tree, id, name);
	look_into_all(tree, true);
}

static void event_read(struct tree *tree, const struct inotify_event *event)
{
	if (event->mask & IN_Q_OVERFLOW) {
		look_again(tree);
		return;
	}
	/* Two trees may have a folder in common. What is done for one of its numbers can change the list. */
	for (uint16_t id = 0; id < tree->most; id++) {
		if (tree->folders[id].wd != event->wd)
			continue;
		if (event->mask & IN_IGNORED)
			remove_with_all_below(tree, id);
		else
			folder_event(tree, id, event);
	}
}

void tree_read(struct tree *tree)
{
	_Alignas(struct inotify_event) char data[READ_SIZE];
	ssize_t len = read(tree->inotify, data, sizeof(data));

	for (ssize_t at = 0; at < len;) {
		const struct inotify_event *event = (const void *)(data + at);

		event_read(tree, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}
