/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire: the framing of docs/agent-protocol.md, "Frames". No I/O here: bytes in, frames out; frames in, bytes out.
 */
#ifndef RUNV_WIRE_H
#define RUNV_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum { WIRE_HEADER = 4, WIRE_FRAME_MAX = 4 << 20 };

/* A growing byte queue with an upper bound. Memory is returned when it runs empty. */
struct buf {
	uint8_t *data;
	size_t start, end, capacity;
};

size_t buf_len(const struct buf *b);
const uint8_t *buf_head(const struct buf *b);
int buf_append(struct buf *b, const void *data, size_t len, size_t max); /* 0, -ENOMEM, or -ENOBUFS above max */
void buf_consume(struct buf *b, size_t len);
void buf_free(struct buf *b);

/*
 * Looks for a whole frame at the head of b. 1: *payload and *len are set and stay valid until the next append or consume, the caller then
 * consumes WIRE_HEADER + *len. 0: more bytes are needed. -EPROTO: the length is 0 or too large.
 */
int wire_peek(const struct buf *b, const char **payload, size_t *len);

/* Appends one frame. 0, -EMSGSIZE when it is empty or too large, -ENOMEM, or -ENOBUFS when the queue would exceed max. */
int wire_append(struct buf *b, const char *payload, size_t len, size_t max);

#endif
