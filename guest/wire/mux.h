/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mux: the multiplexer of docs/agent-protocol.md. Both ends of a link run it: channels on the link, descriptors (connected stream sockets) on the other side.
 * The code is symmetric but for who opens: the opener calls mux_connect, the other end gets an accept callback. On the serial link the host opens, on a relay's the guest.
 */
#ifndef RUNV_MUX_H
#define RUNV_MUX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "loop.h"
#include "wire.h"

/*
 * A descriptor that its owner closes in full ends the channel on the other side at once, after what was written to it before. Where the other side takes
 * none of that for 5 s, the rest is lost: whoever wants all of it delivered half-closes and waits.
 */
enum { MUX_CHANNELS_MAX = 1024, MUX_DATA_MAX = 262144, MUX_WINDOW = 524288 };

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

/*
 * A channel may end in code of its owner's instead of a descriptor, which saves two copies and a wake-up on the way. None of the calls of an end may end
 * it by mux_end_close.
 */
struct mux_end {
	const struct mux_end_ops *ops;
	struct channel *channel; /* NULL: none, or no more */
};

struct mux_end_ops {
	/* Takes of what has come: how much, or -EAGAIN (until mux_end_writable). Anything else ends the channel. */
	ssize_t (*write)(struct mux_end *end, const struct iovec *parts, int count);
	/* Gives what is to be sent: how much, or -EAGAIN (until mux_end_readable). 0: that was all, and nothing more is taken. Anything else ends the channel at once. */
	ssize_t (*read)(struct mux_end *end, uint8_t *data, size_t len);
	/* The other side has ended its half, and all of that was taken. read is asked again. */
	void (*shut)(struct mux_end *end);
	/* The channel is no more, or no more of the end's. rest was not taken. */
	void (*gone)(struct mux_end *end, const uint8_t *rest, size_t len);
};

/*
 * An open channel ends in end from now on; its descriptor is closed. heard had arrived by way of that, and is the end's first input: it is taken over. The
 * owner calls mux_end_readable and mux_end_writable when it is ready. said is sent before anything else, even if the end is closed before that: it is taken
 * over as well. 0, or -errno, with nothing changed.
 */
bool mux_end_possible(struct mux *mux, uint32_t channel);
int mux_end_attach(struct mux *mux, uint32_t channel, struct mux_end *end, const struct mux_end_ops *ops, struct buf *heard, struct buf *said);
void mux_end_readable(struct mux_end *end);
void mux_end_writable(struct mux_end *end);
/* What has come and was not taken yet; valid until the end's next call. */
const uint8_t *mux_end_rest(const struct mux_end *end, size_t *len);
/* The channel is reset, after what was sent; gone is not called. Harmless without a channel. */
void mux_end_close(struct mux_end *end);

#endif
