/* SPDX-License-Identifier: Apache-2.0 */
/* What mux.c (the link) and mux_channel.c (one channel) share. Nobody else includes it. */
#ifndef RUNV_MUX_INTERNAL_H
#define RUNV_MUX_INTERNAL_H

#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "loop.h"
#include "mux.h"
#include "wire.h"

enum frame_type { FRAME_HELLO = 1, FRAME_OPEN, FRAME_ACCEPT, FRAME_DATA, FRAME_CREDIT, FRAME_EOF, FRAME_RESET };

/*
 * With the opener a channel is WAITING until its OPEN is sent and OPENING until it is answered; at the other end it is ASKED until its owner has answered.
 * OVER is a channel the link knows no more of, with data for its descriptor left.
 */
enum channel_state { WAITING, OPENING, ASKED, OPENED, OVER };

/* Frames that wait for the channel's turn. */
enum { DUE_OPEN = 1, DUE_ACCEPT = 2, DUE_CREDIT = 4 };

enum {
	MUX_HEADER = 12,
	MUX_IN_SIZE = 262144,
	MUX_OUT_SIZE = 262144, /* eight times what a virtio port takes with one write */
	MUX_SMALL = 65536,     /* what of the two may stay in memory when little comes and goes */
	MUX_CALM_MS = 1000,
	MUX_PARTS = 64,
	MUX_BUCKETS = 256,
	MUX_RESETS_MAX = 8 * MUX_CHANNELS_MAX, /* more than one buffer of input can ask for */
};

/*
 * The watch of the descriptor is edge-triggered: `readable` remembers an edge until the read that says EAGAIN, so a channel that may not send costs
 * nothing and its hangup is still heard of.
 */
struct channel {
	struct mux *mux;
	struct watch watch;
	struct timer linger;
	LIST_ENTRY(channel) bucket;
	TAILQ_ENTRY(channel) all;
	TAILQ_ENTRY(channel) turn;
	int fd; /* ours from OPENED on; -1 where there is an end, or was */
	struct mux_end *end;
	uint32_t id, port;
	enum channel_state state;
	unsigned due;
	bool in_turn;
	bool readable;
	bool gone;       /* the owner of the descriptor takes nothing any more: what it wrote is still sent, then RESET */
	bool ended;      /* our EOF was sent */
	bool peer_ended; /* theirs was seen */
	bool shut;       /* and passed on */
	uint32_t send_credit, recv_credit, unreturned;
	size_t heard; /* so much at the head of the queue was returned as credit before */
	struct buf queue;
	struct buf said; /* what goes out before the end is asked */
};

struct mux {
	struct loop *loop;
	const struct mux_ops *ops;
	void *arg;
	struct watch link; /* level-triggered */
	bool synced;       /* the other side's HELLO was seen; until then input is dropped */
	bool hello_due;
	bool overflow; /* of resets: the other side sends without reading */
	uint32_t last_id, count;
	uint32_t payload_id, payload_left;
	/* Payloads of one channel that came together, and are delivered together: each delivery may wake somebody up, and have him run at once. */
	uint32_t parts_id;
	int parts_count;
	struct iovec parts[MUX_PARTS];
	TAILQ_HEAD(, channel) channels;
	TAILQ_HEAD(, channel) turns;
	LIST_HEAD(, channel) buckets[MUX_BUCKETS];
	uint32_t resets[MUX_RESETS_MAX];
	size_t reset_count;
	size_t in_len, out_start, out_end;
	struct timer calm;
	bool busy; /* more than MUX_SMALL came or went since the timer ran */
	uint8_t in[MUX_IN_SIZE];
	uint8_t out[MUX_OUT_SIZE];
};

/* mux.c */
void mux_kick(struct mux *mux);
size_t mux_room(const struct mux *mux);
void mux_put(struct mux *mux, enum frame_type type, uint32_t channel, uint32_t value);
void mux_reset(struct mux *mux, uint32_t id);

/* mux_channel.c; whatever is not called _new, _find, _ready or _open may free the channel. */
struct channel *channel_new(struct mux *mux, int fd, uint32_t id, enum channel_state state);
struct channel *channel_find(struct mux *mux, uint32_t id);
void channel_ready(struct channel *ch, unsigned due);
int channel_open(struct channel *ch);
void channel_free(struct channel *ch);
void channel_turn(struct channel *ch);
void channel_deliver(struct channel *ch, const struct iovec *parts, int count);
void channel_peer_eof(struct channel *ch);
void channel_peer_reset(struct channel *ch);

#endif
