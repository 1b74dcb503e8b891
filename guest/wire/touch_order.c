/* SPDX-License-Identifier: Apache-2.0 */
#include "touch_order.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { KIND = 0, ID = 1, SYNC_LEN = 1, FORGET_LEN = 3, FLAGS = 3, FILE_LEN = 4, BASE = 3, KEEP_LEN = 5 };

static uint16_t read_u16(const uint8_t *data)
{
	return (uint16_t)(data[0] << 8 | data[1]);
}

static void write_u16(uint8_t *out, uint16_t value)
{
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
}

/* One name in a folder, which leads nowhere else. */
static bool is_name(const char *name, size_t len)
{
	return len <= TOUCH_NAME_MAX && !memchr(name, '/', len) && !memchr(name, '\0', len) && !(len == 1 && name[0] == '.') &&
	       !(len == 2 && name[0] == '.' && name[1] == '.');
}

static int read_name(const uint8_t *data, size_t len, struct touch_order *order)
{
	if (!is_name((const char *)data, len))
		return -EPROTO;
	memcpy(order->name, data, len);
	order->name_len = len;
	return 0;
}

int touch_order_read(const uint8_t *data, size_t len, struct touch_order *order)
{
	*order = (struct touch_order){ 0 };
	if (len < SYNC_LEN)
		return -EPROTO;
	order->kind = (enum touch_kind)data[KIND];
	if (order->kind == TOUCH_SYNC)
		return len == SYNC_LEN ? 0 : -EPROTO;
	if (len < FORGET_LEN)
		return -EPROTO;
	order->id = read_u16(data + ID);
	if (order->id >= TOUCH_FOLDERS_MAX)
		return -EPROTO;
	if (order->kind == TOUCH_FORGET)
		return len == FORGET_LEN ? 0 : -EPROTO;
	if (order->kind == TOUCH_FILE && len >= FILE_LEN) {
		order->flags = data[FLAGS];
		return order->flags == 0 || order->flags & ~TOUCH_FLAGS ? -EPROTO : read_name(data + FILE_LEN, len - FILE_LEN, order);
	}
	if (order->kind == TOUCH_KEEP && len > KEEP_LEN) {
		order->base = read_u16(data + BASE);
		return order->base >= TOUCH_FOLDERS_MAX ? -EPROTO : read_name(data + KEEP_LEN, len - KEEP_LEN, order);
	}
	return -EPROTO;
}

size_t touch_order_write(const struct touch_order *order, uint8_t *out)
{
	size_t len = SYNC_LEN;

	out[KIND] = (uint8_t)order->kind;
	if (order->kind == TOUCH_SYNC)
		return len;
	write_u16(out + ID, order->id);
	len = FORGET_LEN;
	if (order->kind == TOUCH_FORGET)
		return len;
	if (order->kind == TOUCH_FILE) {
		out[FLAGS] = order->flags;
		len = FILE_LEN;
	} else {
		write_u16(out + BASE, order->base);
		len = KEEP_LEN;
	}
	memcpy(out + len, order->name, order->name_len);
	return len + order->name_len;
}
