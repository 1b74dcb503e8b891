/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream: the bytes of one standard stream, copied between the process's pipe or terminal (local) and a connection from the host (remote). Each
 * direction has one bounded buffer, and is read only while that has room: whoever is slow slows its peer and nobody else.
 */
#ifndef RUNV_STREAM_H
#define RUNV_STREAM_H

#include "agent.h"
#include "mux.h"

struct process;

struct queue {
	uint8_t *data; /* size bytes, or NULL */
	size_t start, end, size;
};

enum { STREAM_BUFFER = 65536 };

/* What a connection is told when it has become a stream. */
#define STREAM_ANSWER "\0\0\0\x0d{\"stream\":{}}"

struct stream {
	struct process *process;
	const char *name;
	bool to_local, to_remote, tty;
	int local_fd, remote_fd; /* -1: not there (yet, or any more) */
	struct watch local, remote;
	struct queue in, out; /* remote -> local, local -> remote */
	struct mux_end end;   /* of a channel, in place of remote_fd and the queues: stream_mux.c */
	bool widened;         /* its pipe holds more than others, because much goes through it */
	bool lost;            /* it ended while the machine was parked */
	bool connected;       /* now or once, by this host */
	bool remote_eof, local_eof, remote_shut;
	bool ended; /* the process is gone: no more than left bytes are still to be delivered */
	size_t left;
};

/* local_fd is consumed and made non-blocking. */
void stream_init(struct stream *stream, struct process *process, const char *name, int local_fd);

/* A stream that can be connected now; NULL with the error set. */
struct stream *stream_find(struct agent *agent, const char *container, const char *process, const char *name, struct error *error);

/* Makes the buffers that stream_connect needs. 0, or -1 with the error set. */
int stream_prepare(struct stream *stream, struct error *error);

/* Consumes fd. data came with the first frame and is the stream's already. */
void stream_connect(struct stream *stream, int fd, const uint8_t *data, size_t len);

/* The process has ended: what is in its pipes now is still delivered, nothing later. */
void stream_end(struct stream *stream);

/* Output is still on its way to the host. */
bool stream_busy(const struct stream *stream);

/* Watches for what can be done next. */
void stream_watch(struct stream *stream);
/* All that was read of the output has left the machine. */
bool stream_quiet(const struct stream *stream);
/* Lets go of the host's end, so that it can be connected anew. */
void stream_detach(struct stream *stream);

/* For stream_mux.c */
void stream_close_local(struct stream *stream);
void stream_free_queues(struct stream *stream);

/* Drops everything. */
void stream_close(struct stream *stream);

#endif
