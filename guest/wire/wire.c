/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An empty queue keeps this much, so that small traffic does not allocate for each frame. */
enum { BUF_KEEP = 4096 };

size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

const uint8_t *buf_head(const struct buf *b)
{
	return b->data == NULL ? NULL : b->data + b->start;
}

static int buf_grow(struct buf *b, size_t need)
{
	size_t capacity = b->capacity > 0 ? b->capacity : 512;
	uint8_t *data;

	while (capacity < need)
		capacity *= 2;
	data = realloc(b->data, capacity);
	if (data == NULL)
		return -ENOMEM;
	b->data = data;
	b->capacity = capacity;
	return 0;
}

/* Makes room for len more bytes behind end. */
static int buf_reserve(struct buf *b, size_t len)
{
	size_t held = buf_len(b);

	if (b->capacity - b->end >= len)
		return 0;
	/* Moved only when no more is moved than was consumed since (each byte moves about once), or when it has to grow anyway. */
	if (b->start > 0 && (b->start >= held || b->capacity - held < len)) {
		memmove(b->data, b->data + b->start, held);
		b->start = 0;
		b->end = held;
		if (b->capacity - b->end >= len)
			return 0;
	}
	return buf_grow(b, b->end + len);
}

int buf_append(struct buf *b, const void *data, size_t len, size_t max)
{
	int ret;

	if (len == 0)
		return 0;
	if (buf_len(b) > max || len > max - buf_len(b))
		return -ENOBUFS;
	ret = buf_reserve(b, len);
	if (ret < 0)
		return ret;
	memcpy(b->data + b->end, data, len);
	b->end += len;
	return 0;
}

void buf_consume(struct buf *b, size_t len)
{
	b->start += len < buf_len(b) ? len : buf_len(b);
	if (b->start < b->end)
		return;
	b->start = b->end = 0;
	if (b->capacity > BUF_KEEP)
		buf_free(b);
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

int wire_peek(const struct buf *b, const char **payload, size_t *len)
{
	const uint8_t *head = buf_head(b);
	uint32_t size;

	if (buf_len(b) < WIRE_HEADER)
		return 0;
	size = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
	if (size == 0 || size > WIRE_FRAME_MAX)
		return -EPROTO;
	if (buf_len(b) - WIRE_HEADER < size)
		return 0;
	*payload = (const char *)head + WIRE_HEADER;
	*len = size;
	return 1;
}

int wire_append(struct buf *b, const char *payload, size_t len, size_t max)
{
	uint8_t head[WIRE_HEADER] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len };
	int ret;

	if (len == 0 || len > WIRE_FRAME_MAX)
		return -EMSGSIZE;
	if (buf_len(b) > max || WIRE_HEADER + len > max - buf_len(b))
		return -ENOBUFS;
	/* Both parts or none: half a frame would shift all that follow. */
	ret = buf_reserve(b, WIRE_HEADER + len);
	if (ret < 0)
		return ret;
	memcpy(b->data + b->end, head, WIRE_HEADER);
	memcpy(b->data + b->end + WIRE_HEADER, payload, len);
	b->end += WIRE_HEADER + len;
	return 0;
}
