/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor_clients: who is attached to a container (docs/streams.md, "attach.sock"). Frames in and out; a queue for each client, with a bound; a client that
 * does not read loses output and is told so, or, if it asked for that, has the container wait.
 */
#ifndef RUNV_MONITOR_CLIENTS_H
#define RUNV_MONITOR_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "loop.h"
#include "wire.h"

enum {
	CLIENTS_MAX = 64,
	CLIENT_READ = 16384,
	CLIENT_FRAME_MAX = 65536, /* of the payload of a frame from a client */
	CLIENT_QUEUE_MAX = 512 << 10, /* of output for one client; then it loses some */
	CLIENT_HOLD_MAX = 128 << 10, /* above that, output waits for a client that asked for it */
};

/* The first byte of a frame. */
enum frame {
	FRAME_STDIN = 0, /* from a client: bytes; none: their end */
	FRAME_STDOUT = 1,
	FRAME_STDERR = 2,
	FRAME_ATTACH = 16, /* enum attach */
	FRAME_RESIZE = 17, /* rows and columns, two bytes each */
	FRAME_REOPEN = 18,
	FRAME_STATUS = 19,
	FRAME_ATTACHED = 32, /* enum attached */
	FRAME_EXIT = 33, /* what is in the file exit; the last one */
	FRAME_DONE = 34, /* FRAME_REOPEN was; or the text of what went wrong */
	FRAME_STATE = 35, /* JSON */
	FRAME_LOST = 36, /* the stream, and in eight bytes how much of it */
	FRAME_ERROR = 37, /* text; the connection ends */
};

enum attach { ATTACH_STDIN = 1, ATTACH_STDOUT = 2, ATTACH_STDERR = 4, ATTACH_HOLD = 8 };
enum attached { ATTACHED_STDIN = 1, ATTACHED_TERMINAL = 16 };

struct clients;
struct client;

struct clients_ops {
	/* Whether more input can be taken now. */
	bool (*input_ready)(struct clients *clients);
	void (*input)(struct clients *clients, const uint8_t *data, size_t len);
	/* A client with stdin has said that there is no more, or is gone. */
	void (*input_end)(struct clients *clients);
	void (*resize)(struct clients *clients, unsigned int rows, unsigned int columns);
	int (*reopen)(struct clients *clients); /* 0 or -errno */
	size_t (*status)(struct clients *clients, char *text, size_t size);
};

struct clients {
	struct loop *loop;
	const struct clients_ops *ops;
	struct watch listener;
	struct timer pause; /* no descriptors: nobody is accepted for a while */
	LIST_HEAD(, client) list;
	unsigned int count;
	uint8_t offers; /* enum attached */
	bool attached; /* somebody has been */
	const char *end; /* the process has ended: what all are told */
	uint8_t scratch[CLIENT_READ];
};

/* offers: enum attached. fd, a listening socket, is ours from now on; -1: there is none. 0 or -errno. */
int clients_start(struct clients *clients, struct loop *loop, const struct clients_ops *ops, uint8_t offers, int fd);

/* A connection. It is closed if it cannot be served. */
void clients_add(struct clients *clients, int fd);

void clients_output(struct clients *clients, enum frame stream, const uint8_t *data, size_t len);

/* Whether somebody who asked to be waited for has too much of this stream unread. */
bool clients_hold(const struct clients *clients, enum frame stream);

/* Input can be taken again. */
void clients_resume(struct clients *clients);

/* The process has ended, and all of its output was passed on. text, which stays valid, is told to all, who then are to hang up. */
void clients_end(struct clients *clients, const char *text);

/* Forgets who has gone. To be called after each pass of the loop. */
void clients_sweep(struct clients *clients);

/* Bytes that wait to be read by somebody. */
size_t clients_queued(const struct clients *clients);

void clients_fini(struct clients *clients);

#endif
