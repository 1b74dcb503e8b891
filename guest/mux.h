/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mux: the multiplexer of docs/agent-protocol.md. Both ends of the serial link run it: channels on the link, descriptors (connected unix stream sockets) on the other side.
 * The code is symmetric but for who opens: the host calls mux_connect, the guest gets an accept callback.
 */
#ifndef RUNV_MUX_H
#define RUNV_MUX_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"

/*
 * A descriptor that its owner closes in full ends the channel on the other side at once, after what was written to it before. Where the other side takes
 * none of that for 5 s, the rest is lost: whoever wants all of it delivered half-closes and waits.
 */
enum { MUX_CHANNELS_MAX = 1024, MUX_DATA_MAX = 32768, MUX_WINDOW = 262144 };

struct mux;

struct mux_ops {
	/* Guest: the host opened a channel to port. Returns a connected, non-blocking descriptor that the mux then owns, or -errno to refuse. NULL on the host: OPEN is refused. */
	int (*accept)(void *arg, uint32_t port);
	/* Host: the channel asked for with mux_connect is open (ok) or was refused (!ok; fd was not touched and is the caller's again). From ok on the mux owns fd. */
	void (*connected)(void *arg, int fd, uint32_t channel, bool ok);
	/* The link ended (end of file or an error; 0 or -errno). All channels are gone; a descriptor is closed as soon as it took what had arrived for it. The mux is idle until mux_attach. */
	void (*down)(void *arg, int error);
};

struct mux *mux_new(struct loop *loop, const struct mux_ops *ops, void *arg); /* NULL: out of memory */
void mux_free(struct mux *mux);

/*
 * Takes the link (non-blocking; stays the caller's to close, after down) into use. The host sends HELLO, the guest waits for it and answers.
 * SIGPIPE must be ignored by the caller. 0 or -errno.
 */
int mux_attach(struct mux *mux, int link_fd);

/* How many channels there are: those asked for, open, and ended with data left to deliver. */
unsigned mux_channels(const struct mux *mux);

/* Host: asks for a channel to port for fd; connected() tells. Queued until the guest's HELLO was seen. 0 or -errno (-ENOBUFS: too many channels). */
int mux_connect(struct mux *mux, int fd, uint32_t port);

/* Host: takes back a mux_connect that was not answered yet (the client went away). The caller keeps fd. */
void mux_cancel(struct mux *mux, int fd);

#endif
