/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mux: the multiplexer of docs/agent-protocol.md. Both ends of a link run it: channels on the link, descriptors (connected stream sockets) on the other side.
 * The code is symmetric but for who opens: the opener calls mux_connect, the other end gets an accept callback. On the serial link the host opens, on a relay's the guest.
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
	/*
	 * The other side opened a channel to port. Returns a connected, non-blocking descriptor that the mux then owns, -errno to refuse, or -EINPROGRESS:
	 * mux_answer will tell. NULL for the opener: OPEN is refused.
	 */
	int (*accept)(void *arg, uint32_t port, uint32_t channel);
	/* Opener: the channel asked for with mux_connect is open (ok) or was refused (!ok; fd was not touched and is the caller's again). From ok on the mux owns fd. */
	void (*connected)(void *arg, int fd, uint32_t channel, bool ok);
	/* The link ended (end of file or an error; 0 or -errno). All channels are gone; a descriptor is closed as soon as it took what had arrived for it. The mux is idle until mux_attach. */
	void (*down)(void *arg, int error);
};

struct mux *mux_new(struct loop *loop, const struct mux_ops *ops, void *arg); /* NULL: out of memory */
void mux_free(struct mux *mux);

/*
 * Takes the link (non-blocking; stays the caller's to close, after down) into use. The opener sends HELLO, the other end waits for it and answers.
 * SIGPIPE must be ignored by the caller. 0 or -errno.
 */
int mux_attach(struct mux *mux, int link_fd);

/* How many channels there are: those asked for, open, and ended with data left to deliver. */
unsigned mux_channels(const struct mux *mux);

/* Opener: asks for a channel to port for fd; connected() tells. Queued until the other side's HELLO was seen. 0 or -errno (-ENOBUFS: too many channels). */
int mux_connect(struct mux *mux, int fd, uint32_t port);

/* Opener: takes back a mux_connect that was not answered yet (the client went away). The caller keeps fd. */
void mux_cancel(struct mux *mux, int fd);

/* The answer that accept owed: a descriptor as accept would have returned, or -errno. -ENOENT: nobody waits for it any more, and the caller keeps fd. */
int mux_answer(struct mux *mux, uint32_t channel, int fd);
/* Whether it is still owed. */
bool mux_asked(struct mux *mux, uint32_t channel);

#endif
