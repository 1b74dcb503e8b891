/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_mux: pipes whose connection is a channel of the serial carrier. The multiplexer writes the process's input to its pipe, and reads its output from
 * there: no socket, no buffer and no wake-up is in between. A terminal has its two halves and its hang-ups, and stays with stream.c; so does vsock.
 */
#ifndef RUNV_STREAM_MUX_H
#define RUNV_STREAM_MUX_H

#include "stream.h"

/*
 * Connects a stream whose first frame came by a channel, over fd. data came behind that frame, and more may be in fd, which stays the caller's to close.
 * 1: connected, and the process may be gone; 0: this one cannot be; -errno.
 */
int stream_mux_connect(struct stream *stream, uint32_t channel, int fd, const uint8_t *data, size_t len);

bool stream_mux_connected(const struct stream *stream);

/* The process has ended: what is in its pipe now is still sent. */
void stream_mux_end(struct stream *stream);

/* The machine may have been parked, or be so no more. */
void stream_mux_watch(struct stream *stream);

/* The host's end goes. The input that had come is kept in the stream's queue. */
void stream_mux_detach(struct stream *stream);

#endif
