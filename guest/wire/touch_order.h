/* SPDX-License-Identifier: Apache-2.0 */
/* touch_order: what the host's watcher of shared folders tells the guest (docs/agent-protocol.md, "Touching"). No I/O here: bytes in, orders out, and back. */
#ifndef RUNV_TOUCH_ORDER_H
#define RUNV_TOUCH_ORDER_H

#include <stddef.h>
#include <stdint.h>

enum {
	TOUCH_FOLDERS_MAX = 4096,
	TOUCH_TREES_MAX = 64,
	TOUCH_NAME_MAX = 255,
	TOUCH_ORDER_MAX = 6 + TOUCH_NAME_MAX,
};

/*
 * A modification time that no file has: seconds of "runvtime". Set on a file of a share, it changes nothing on the host (host/qemu_shim.c), but the guest's
 * kernel tells those who watch the file.
 */
#define TOUCH_TIME 0x72756e7674696d65LL

enum touch_kind {
	TOUCH_KEEP = 'K',   /* folder id is that of this name in the folder base */
	TOUCH_FORGET = 'F', /* there is no folder id any more */
	TOUCH_FILE = 'T',   /* something happened to name in the folder id; "": to what id itself is */
	TOUCH_SYNC = 'S',   /* answer when all before this is done */
};

enum { TOUCH_CONTENT = 1, TOUCH_ATTRIBUTES = 2, TOUCH_NEW = 4, TOUCH_GONE = 8, TOUCH_FLAGS = 15 };

struct touch_order {
	enum touch_kind kind;
	uint16_t id, base;
	uint8_t flags;
	size_t name_len;
	char name[TOUCH_NAME_MAX + 1];
};

/* 0, or -EPROTO: no order is like this. */
int touch_order_read(const uint8_t *data, size_t len, struct touch_order *order);

/* Its length; out has TOUCH_ORDER_MAX bytes. */
size_t touch_order_write(const struct touch_order *order, uint8_t *out);

#endif
