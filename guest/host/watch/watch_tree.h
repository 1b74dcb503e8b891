/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch_tree: the folders of a container's shares, each with an inotify watch on the host and a number that the guest knows it by. What happens in them
 * becomes orders for the guest (wire/touch_order.h).
 */
#ifndef RUNV_WATCH_TREE_H
#define RUNV_WATCH_TREE_H

#include <stdbool.h>

#include "loop.h"
#include "touch_order.h"
#include "wire.h"

enum {
	PENDING_FILES_MAX = 256,
	GATHER_MS = 20, /* what happens to a file within this time is one thing */
};

struct folder {
	int wd; /* -1: the number is free */
	uint16_t parent;
	uint16_t next; /* another free number; or one whose folder is to be looked into, too */
	char *name;
};

/* What is to be told of a file, when more was gathered. */
struct happened {
	uint16_t id;
	uint8_t flags;
	char *name;
};

struct tree {
	int inotify;
	unsigned int roots, most; /* how many trees there are, and folders there may be */
	bool full;		  /* there were more */
	int root_fds[TOUCH_TREES_MAX];
	uint16_t free, first, last; /* first, last: those that are to be looked into, the oldest first */
	struct folder folders[TOUCH_FOLDERS_MAX];
	size_t happened_count;
	struct happened happened[PENDING_FILES_MAX];
	struct buf orders; /* each with its length before it */
	bool broken;	   /* out of memory: the guest would not hear of all */
};

/* most: at most TOUCH_FOLDERS_MAX. 0 or -errno */
int tree_init(struct tree *tree, unsigned int most);
void tree_fini(struct tree *tree);

/* A folder or a file, the next in the order that the guest was told. 0 or -errno */
int tree_add(struct tree *tree, const char *path);

/* Finds all folders below those; the upper ones first, should they be too many. */
void tree_scan(struct tree *tree);

/* Reads what inotify has to tell. */
void tree_read(struct tree *tree);

/* Turns what was gathered into orders. */
void tree_flush(struct tree *tree);

void tree_order(struct tree *tree, const struct touch_order *order);

#endif
