/* SPDX-License-Identifier: Apache-2.0 */
#include "mux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mux_internal.h"

#define MAGIC 0x72756e76u

enum {
	VERSION = 1,
	TURN_MIN = 4096, /* room in the output below which a channel waits for its turn, so that frames stay large */
	PASSES_MAX = 16, /* reads of the link, and writes to it, for one event: then the others have their turn */
};

/* Output is made when the link says that it takes some: then all that has become due goes in one write. */
void mux_kick(struct mux *mux)
{
	if (mux->link.fn != NULL)
		loop_change(mux->loop, &mux->link, EPOLLIN | EPOLLOUT);
}

size_t mux_room(const struct mux *mux)
{
	return MUX_OUT_SIZE - mux->out_end;
}

void mux_put(struct mux *mux, enum frame_type type, uint32_t channel, uint32_t value)
{
	uint32_t words[3] = { htonl((uint32_t)type << 24), htonl(channel), htonl(value) };

	memcpy(mux->out + mux->out_end, words, MUX_HEADER);
	mux->out_end += MUX_HEADER;
}

/* Each id once: many frames for a channel that has just gone are answered by one RESET. */
void mux_reset(struct mux *mux, uint32_t id)
{
	for (size_t i = 0; i < mux->reset_count; i++)
		if (mux->resets[i] == id)
			return;
	if (mux->reset_count == MUX_RESETS_MAX)
		mux->overflow = true;
	else
		mux->resets[mux->reset_count++] = id;
	mux_kick(mux);
}

static bool is_opener(const struct mux *mux)
{
	return mux->ops->accept == NULL;
}

/* The owner of the descriptor has it back, or the channel is gone. */
static void mux_refuse(struct mux *mux, struct channel *ch)
{
	int fd = ch->fd;
	uint32_t id = ch->id;

	channel_free(ch);
	mux->ops->connected(mux->arg, fd, id, false);
}

static struct channel *first_dropped(struct mux *mux, bool waiting_too)
{
	struct channel *ch;

	TAILQ_FOREACH(ch, &mux->channels, all)
		if (ch->state != OVER && (waiting_too || ch->state != WAITING))
			return ch;
	return NULL;
}

/*
 * What still waits for its OPEN survives a new beginning, but not the loss of the link. What has arrived for a descriptor that is slow to take it is
 * still delivered in any case: the last words of a guest would be lost otherwise.
 */
static void mux_drop(struct mux *mux, bool waiting_too)
{
	struct channel *ch;

	mux->payload_left = 0;
	mux->reset_count = 0;
	mux->overflow = false;
	while ((ch = first_dropped(mux, waiting_too)) != NULL) {
		if (ch->state == WAITING || ch->state == OPENING)
			mux_refuse(mux, ch);
		else if (ch->state == ASKED)
			channel_free(ch);
		else
			channel_peer_reset(ch);
	}
}

/* The other side broke a rule. */
static void mux_break(struct mux *mux)
{
	mux->synced = false;
	mux->hello_due = true;
	mux_drop(mux, false);
}

static void mux_hello(struct mux *mux)
{
	bool again = mux->synced;

	mux_drop(mux, false);
	/* The accepting end answers. The opener has its answer now, unless the other began anew by itself: then it wants a HELLO first. */
	if (!is_opener(mux) || again)
		mux->hello_due = true;
	mux->synced = !is_opener(mux) || !again;
}

/* The owner's answer to OPEN: fd is the channel's from here on, or -errno. */
static void answered(struct mux *mux, struct channel *ch, int fd)
{
	uint32_t id = ch->id;

	ch->fd = fd;
	if (fd >= 0 && channel_open(ch) == 0) {
		channel_ready(ch, DUE_ACCEPT);
		return;
	}
	channel_free(ch);
	mux_reset(mux, id);
}

static bool frame_open(struct mux *mux, struct channel *ch, uint32_t id, uint32_t port)
{
	int fd;

	if (ch != NULL)
		return false;
	ch = is_opener(mux) ? NULL : channel_new(mux, -1, id, ASKED);
	if (ch == NULL) {
		mux_reset(mux, id);
		return true;
	}
	fd = mux->ops->accept(mux->arg, port, id);
	if (fd != -EINPROGRESS)
		answered(mux, ch, fd);
	return true;
}

static bool frame_accept(struct mux *mux, struct channel *ch, uint32_t id, uint32_t value)
{
	if (ch->state != OPENING || value != 0)
		return false;
	/* First told, because the owner takes its own watch off the descriptor. */
	ch->state = OPENED;
	mux->ops->connected(mux->arg, ch->fd, id, true);
	if (channel_open(ch) < 0) {
		channel_free(ch);
		mux_reset(mux, id);
	}
	return true;
}

static bool frame_data(struct mux *mux, struct channel *ch, uint32_t id, uint32_t len)
{
	if (len > MUX_DATA_MAX)
		return false;
	mux->payload_id = id;
	mux->payload_left = len;
	if (ch == NULL) {
		mux_reset(mux, id);
		return true;
	}
	if (ch->state != OPENED || ch->peer_ended || len > ch->recv_credit)
		return false;
	ch->recv_credit -= len;
	return true;
}

static bool frame_credit(struct mux *mux, struct channel *ch, uint32_t id, uint32_t value)
{
	(void)mux;
	(void)id;
	if (ch->state != OPENED || value > MUX_WINDOW - ch->send_credit)
		return false;
	ch->send_credit += value;
	if (ch->readable && !ch->ended)
		channel_ready(ch, 0);
	return true;
}

static bool frame_eof(struct mux *mux, struct channel *ch, uint32_t id, uint32_t value)
{
	(void)mux;
	(void)id;
	if (ch->state != OPENED || ch->peer_ended || value != 0)
		return false;
	channel_peer_eof(ch);
	return true;
}

static bool frame_reset(struct mux *mux, struct channel *ch, uint32_t id, uint32_t value)
{
	(void)id;
	if (value != 0)
		return false;
	if (ch == NULL || ch->state == WAITING)
		return true;
	if (ch->state == OPENING)
		mux_refuse(mux, ch);
	else if (ch->state == ASKED)
		channel_free(ch);
	else
		channel_peer_reset(ch);
	return true;
}

static void mux_deliver(struct mux *mux)
{
	struct channel *ch = channel_find(mux, mux->parts_id);
	int count = mux->parts_count;

	mux->parts_count = 0;
	if (ch != NULL && count > 0)
		channel_deliver(ch, mux->parts, count);
}

/* strict: a frame for a channel that is not open is answered with RESET before the handler is asked. */
static const struct {
	bool (*handle)(struct mux *mux, struct channel *ch, uint32_t id, uint32_t value);
	bool strict;
} frames[] = {
	[FRAME_OPEN] = { frame_open, false },    [FRAME_ACCEPT] = { frame_accept, true }, [FRAME_DATA] = { frame_data, false },
	[FRAME_CREDIT] = { frame_credit, true }, [FRAME_EOF] = { frame_eof, true },       [FRAME_RESET] = { frame_reset, false },
};

/* False: the header breaks the rules. */
static bool mux_frame(struct mux *mux, const uint8_t *header)
{
	uint32_t words[3], type, id;
	struct channel *ch;

	memcpy(words, header, MUX_HEADER);
	type = ntohl(words[0]) >> 24;
	id = ntohl(words[1]);
	if ((ntohl(words[0]) & 0xffffff) != 0 || type < FRAME_HELLO || type > FRAME_RESET)
		return false;
	if (type == FRAME_HELLO) {
		if (id != MAGIC || ntohl(words[2]) != VERSION)
			return false;
		mux_deliver(mux);
		mux_hello(mux);
		return true;
	}
	if (id == 0)
		return false;
	/* What these two bring along does not end a channel. */
	if (type != FRAME_DATA && type != FRAME_CREDIT)
		mux_deliver(mux);
	ch = channel_find(mux, id);
	if (ch == NULL && frames[type].strict) {
		mux_reset(mux, id);
		return true;
	}
	return frames[type].handle(mux, ch, id, ntohl(words[2]));
}

/* Drops input up to a HELLO. Returns how much, or all but what could be the beginning of one. */
static size_t mux_resync(struct mux *mux, const uint8_t *data, size_t len)
{
	static const uint8_t hello[MUX_HEADER] = { FRAME_HELLO, 0, 0, 0, 0x72, 0x75, 0x6e, 0x76, 0, 0, 0, VERSION };
	const uint8_t *found = memmem(data, len, hello, MUX_HEADER);

	if (found == NULL)
		return len < MUX_HEADER ? 0 : len - (MUX_HEADER - 1);
	mux_hello(mux);
	return (size_t)(found - data) + MUX_HEADER;
}

static size_t mux_payload(struct mux *mux, uint8_t *data, size_t len)
{
	if (len > mux->payload_left)
		len = mux->payload_left;
	mux->payload_left -= (uint32_t)len;
	if (mux->parts_count == MUX_PARTS || mux->parts_id != mux->payload_id)
		mux_deliver(mux);
	mux->parts_id = mux->payload_id;
	mux->parts[mux->parts_count++] = (struct iovec){ .iov_base = data, .iov_len = len };
	return len;
}

static size_t mux_parse(struct mux *mux, uint8_t *data, size_t len)
{
	size_t done = 0;

	for (;;) {
		size_t left = len - done, n;

		if (left > 0 && mux->payload_left > 0) {
			done += mux_payload(mux, data + done, left);
		} else if (left < MUX_HEADER) {
			return done;
		} else if (!mux->synced) {
			n = mux_resync(mux, data + done, left);
			done += n;
			if (!mux->synced && left - n < MUX_HEADER)
				return done;
		} else if (mux_frame(mux, data + done)) {
			done += MUX_HEADER;
		} else {
			mux_deliver(mux);
			mux_break(mux);
		}
	}
}

static void give_back(uint8_t *data, size_t size)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = ((uintptr_t)data + MUX_SMALL + page - 1) & ~(page - 1);
	uintptr_t end = ((uintptr_t)data + size) & ~(page - 1);

	if (end > start)
		madvise((void *)start, end - start, MADV_DONTNEED);
}

/* What was needed for a lot of data is given back when there is none for a while. */
static void mux_calm(struct loop *loop, struct timer *timer)
{
	struct mux *mux = container_of(timer, struct mux, calm);

	if (mux->busy || mux->in_len > MUX_SMALL || mux->out_end > MUX_SMALL) {
		mux->busy = false;
		loop_arm(loop, timer, MUX_CALM_MS, mux_calm);
		return;
	}
	give_back(mux->in, MUX_IN_SIZE);
	give_back(mux->out, MUX_OUT_SIZE);
	malloc_trim(0); /* the channels' queues */
}

static void mux_busy(struct mux *mux)
{
	mux->busy = true;
	if (mux->calm.due_ms == 0)
		loop_arm(mux->loop, &mux->calm, MUX_CALM_MS, mux_calm);
}

/*
 * Reads what is there, up to a buffer full: a virtio port gives a page with each read, and what is parsed together is delivered together. 1: there may be
 * more; 0: that was all; -EPIPE: the link has ended.
 */
static int mux_read(struct mux *mux)
{
	while (mux->in_len < MUX_IN_SIZE) {
		ssize_t n = read(mux->link.fd, mux->in + mux->in_len, MUX_IN_SIZE - mux->in_len);

		if (n == 0)
			return -EPIPE;
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		mux->in_len += (size_t)n;
	}
	return 1;
}

/* 1: the link has ended. */
static int mux_input(struct mux *mux)
{
	int more = 1;

	/* Many answers are sent before more is read: too many that wait are the sign of a side that does not read. */
	for (int i = 0; i < PASSES_MAX && more == 1 && (i == 0 || mux->reset_count < MUX_RESETS_MAX / 4); i++) {
		size_t done;

		more = mux_read(mux);
		if (mux->in_len > MUX_SMALL)
			mux_busy(mux);
		done = mux_parse(mux, mux->in, mux->in_len);
		mux_deliver(mux);
		mux->in_len -= done;
		memmove(mux->in, mux->in + done, mux->in_len);
	}
	return more == -EPIPE ? 1 : more < 0 ? more : 0;
}

static void mux_fill(struct mux *mux)
{
	struct channel *ch;

	mux->out_start = mux->out_end = 0;
	if (mux->hello_due)
		mux_put(mux, FRAME_HELLO, MAGIC, VERSION);
	mux->hello_due = false;
	if (!mux->synced)
		return;
	while (mux->reset_count > 0 && mux_room(mux) > TURN_MIN)
		mux_put(mux, FRAME_RESET, mux->resets[--mux->reset_count], 0);
	while ((ch = TAILQ_FIRST(&mux->turns)) != NULL && mux_room(mux) > TURN_MIN)
		channel_turn(ch);
	if (mux->out_end > MUX_SMALL)
		mux_busy(mux);
}

static int mux_output(struct mux *mux)
{
	for (int i = 0; i < PASSES_MAX; i++) {
		ssize_t n;

		if (mux->out_start == mux->out_end)
			mux_fill(mux);
		if (mux->out_start == mux->out_end)
			return 0;
		n = write(mux->link.fd, mux->out + mux->out_start, mux->out_end - mux->out_start);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		mux->out_start += (size_t)n;
	}
	return 0;
}

static bool mux_has_output(const struct mux *mux)
{
	return mux->out_start < mux->out_end || mux->hello_due ||
	       (mux->synced && (mux->reset_count > 0 || !TAILQ_EMPTY(&mux->turns)));
}

static void mux_down(struct mux *mux, int error)
{
	loop_del(mux->loop, &mux->link);
	mux_drop(mux, true);
	mux->synced = mux->hello_due = false;
	mux->in_len = mux->out_start = mux->out_end = 0;
	mux->ops->down(mux->arg, error);
}

static void link_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct mux *mux = container_of(watch, struct mux, link);
	int ret = 0;

	if (mux->overflow)
		mux_break(mux);
	if (events & ~(uint32_t)EPOLLOUT)
		ret = mux_input(mux);
	if (ret == 0)
		ret = mux_output(mux);
	if (ret == 0)
		ret = loop_change(loop, watch, mux_has_output(mux) ? EPOLLIN | EPOLLOUT : EPOLLIN);
	if (ret != 0)
		mux_down(mux, ret < 0 ? ret : 0);
}

struct mux *mux_new(struct loop *loop, const struct mux_ops *ops, void *arg)
{
	struct mux *mux = calloc(1, sizeof(*mux));

	if (mux == NULL)
		return NULL;
	mux->loop = loop;
	mux->ops = ops;
	mux->arg = arg;
	mux->link.fd = -1;
	TAILQ_INIT(&mux->channels);
	TAILQ_INIT(&mux->turns);
	return mux;
}

void mux_free(struct mux *mux)
{
	struct channel *ch;

	if (mux == NULL)
		return;
	while ((ch = TAILQ_FIRST(&mux->channels)) != NULL)
		channel_free(ch);
	loop_del(mux->loop, &mux->link);
	loop_disarm(mux->loop, &mux->calm);
	free(mux);
}

unsigned mux_channels(const struct mux *mux)
{
	return mux->count;
}

int mux_attach(struct mux *mux, int link_fd)
{
	if (mux->link.fn != NULL)
		return -EBUSY;
	/* The accepting end's HELLO is always an answer: one sent by itself could not be told from it, and channels opened between the two would be lost. */
	mux->hello_due = is_opener(mux);
	return loop_add(mux->loop, &mux->link, link_fd, EPOLLIN | EPOLLOUT, link_event);
}

static uint32_t next_id(struct mux *mux)
{
	/* Not used again for long: frames for the channel that had it before may still be on their way. */
	do
		mux->last_id++;
	while (mux->last_id == 0 || channel_find(mux, mux->last_id) != NULL);
	return mux->last_id;
}

int mux_connect(struct mux *mux, int fd, uint32_t port)
{
	struct channel *ch = channel_new(mux, fd, next_id(mux), WAITING);

	if (ch == NULL)
		return -ENOBUFS;
	ch->port = port;
	channel_ready(ch, DUE_OPEN);
	return 0;
}

void mux_cancel(struct mux *mux, int fd)
{
	struct channel *ch;

	TAILQ_FOREACH(ch, &mux->channels, all) {
		if (ch->fd != fd || (ch->state != WAITING && ch->state != OPENING))
			continue;
		if (ch->state == OPENING)
			mux_reset(mux, ch->id);
		channel_free(ch);
		return;
	}
}

bool mux_asked(struct mux *mux, uint32_t channel)
{
	const struct channel *ch = channel_find(mux, channel);

	return ch != NULL && ch->state == ASKED;
}

int mux_answer(struct mux *mux, uint32_t channel, int fd)
{
	if (!mux_asked(mux, channel))
		return -ENOENT;
	answered(mux, channel_find(mux, channel), fd);
	return 0;
}
