/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mux_internal.h"

enum {
	CREDIT_STEP = MUX_WINDOW / 4, /* returned in steps this large: few frames, and the sender never runs dry */
	QUEUE_MAX = 2 * MUX_WINDOW,   /* the credit, and what a descriptor held before an end took its place */
	LINGER_MS = 5000,             /* how long data between two ends of which one is gone may wait without progress */
};

struct channel *channel_find(struct mux *mux, uint32_t id)
{
	struct channel *ch;

	LIST_FOREACH(ch, &mux->buckets[id % MUX_BUCKETS], bucket)
		if (ch->id == id)
			return ch;
	return NULL;
}

struct channel *channel_new(struct mux *mux, int fd, uint32_t id, enum channel_state state)
{
	struct channel *ch;

	if (mux->count >= MUX_CHANNELS_MAX)
		return NULL;
	ch = calloc(1, sizeof(*ch));
	if (ch == NULL)
		return NULL;
	ch->mux = mux;
	ch->watch.fd = -1;
	ch->fd = fd;
	ch->id = id;
	ch->state = state;
	ch->send_credit = ch->recv_credit = MUX_WINDOW;
	TAILQ_INSERT_TAIL(&mux->channels, ch, all);
	LIST_INSERT_HEAD(&mux->buckets[id % MUX_BUCKETS], ch, bucket);
	mux->count++;
	return ch;
}

void channel_ready(struct channel *ch, unsigned due)
{
	ch->due |= due;
	if (ch->in_turn)
		return;
	ch->in_turn = true;
	TAILQ_INSERT_TAIL(&ch->mux->turns, ch, turn);
	mux_kick(ch->mux);
}

static void channel_unready(struct channel *ch)
{
	if (ch->in_turn)
		TAILQ_REMOVE(&ch->mux->turns, ch, turn);
	ch->in_turn = false;
	ch->due = 0;
}

/* From now on nothing may be sent for it. */
static void channel_detach(struct channel *ch)
{
	if (ch->state == OVER)
		return;
	channel_unready(ch);
	LIST_REMOVE(ch, bucket);
	ch->state = OVER;
}

static struct mux_end *end_take(struct channel *ch)
{
	struct mux_end *end = ch->end;

	if (end != NULL)
		end->channel = NULL;
	ch->end = NULL;
	return end;
}

void channel_free(struct channel *ch)
{
	struct mux *mux = ch->mux;
	struct mux_end *end = end_take(ch);
	bool ours = (ch->state == OPENED || ch->state == OVER) && ch->fd >= 0;

	channel_detach(ch);
	loop_disarm(mux->loop, &ch->linger);
	loop_del(mux->loop, &ch->watch);
	if (ours)
		close(ch->fd);
	TAILQ_REMOVE(&mux->channels, ch, all);
	mux->count--;
	if (end != NULL)
		end->ops->gone(end, buf_head(&ch->queue), buf_len(&ch->queue));
	buf_free(&ch->queue);
	buf_free(&ch->said);
	free(ch);
}

static void channel_reset(struct channel *ch)
{
	if (ch->state == OPENED)
		mux_reset(ch->mux, ch->id);
	channel_free(ch);
}

static void linger_expired(struct loop *loop, struct timer *timer)
{
	(void)loop;
	channel_reset(container_of(timer, struct channel, linger));
}

static void channel_linger(struct channel *ch)
{
	loop_arm(ch->mux->loop, &ch->linger, LINGER_MS, linger_expired);
}

/* The descriptor takes nothing any more. */
static void channel_gone(struct channel *ch)
{
	if (ch->gone)
		return;
	ch->gone = true;
	buf_free(&ch->queue);
	if (ch->state == OVER || ch->ended) {
		channel_reset(ch);
		return;
	}
	ch->readable = true;
	channel_ready(ch, 0);
}

/* Nothing more travels; what is queued still goes to the descriptor. */
static void channel_over(struct channel *ch)
{
	channel_detach(ch);
	if (ch->gone || buf_len(&ch->queue) == 0)
		channel_free(ch);
}

void channel_peer_reset(struct channel *ch)
{
	channel_linger(ch);
	channel_over(ch);
}

/* Passes the other side's EOF on, once all before it is delivered. */
static void channel_shut(struct channel *ch)
{
	if (!ch->peer_ended || ch->shut || ch->gone || buf_len(&ch->queue) > 0)
		return;
	ch->shut = true;
	if (ch->end == NULL) {
		shutdown(ch->fd, SHUT_WR);
		return;
	}
	ch->end->ops->shut(ch->end);
	mux_end_readable(ch->end);
}

void channel_peer_eof(struct channel *ch)
{
	ch->peer_ended = true;
	channel_shut(ch);
	if (ch->ended)
		channel_over(ch);
}

static void channel_consumed(struct channel *ch, size_t n)
{
	size_t heard = n < ch->heard ? n : ch->heard;

	ch->heard -= heard;
	n -= heard;
	ch->unreturned += (uint32_t)n;
	if (ch->state == OPENED && !ch->peer_ended && ch->unreturned >= CREDIT_STEP)
		channel_ready(ch, DUE_CREDIT);
}

/* How much the descriptor took, or -1 when it is gone; the channel may be as well. */
static ssize_t channel_send(struct channel *ch, const struct iovec *parts, int count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = (size_t)count };
	ssize_t n;

	if (ch->end != NULL) {
		n = ch->end->ops->write(ch->end, parts, count);
		if (n < 0 && n != -EAGAIN)
			channel_reset(ch);
		return n == -EAGAIN ? 0 : n;
	}
	n = sendmsg(ch->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	channel_gone(ch);
	return -1;
}

static void channel_flush(struct channel *ch)
{
	struct iovec all = { .iov_base = (void *)(uintptr_t)buf_head(&ch->queue), .iov_len = buf_len(&ch->queue) };
	ssize_t n;

	if (all.iov_len == 0)
		return;
	n = channel_send(ch, &all, 1);
	if (n < 0)
		return;
	buf_consume(&ch->queue, (size_t)n);
	channel_consumed(ch, (size_t)n);
	if (n > 0 && ch->linger.due_ms != 0)
		channel_linger(ch);
	channel_shut(ch);
	if (ch->state == OVER && buf_len(&ch->queue) == 0)
		channel_free(ch);
}

void channel_deliver(struct channel *ch, const struct iovec *parts, int count)
{
	size_t skip = 0;
	ssize_t n = 0;

	if (ch->gone)
		return;
	if (buf_len(&ch->queue) == 0)
		n = channel_send(ch, parts, count);
	if (n < 0)
		return;
	channel_consumed(ch, (size_t)n);
	for (int i = 0; i < count; i++) {
		const uint8_t *data = parts[i].iov_base;
		size_t len = parts[i].iov_len;

		skip = (size_t)n < len ? (size_t)n : len;
		n -= (ssize_t)skip;
		if (buf_append(&ch->queue, data + skip, len - skip, QUEUE_MAX) < 0) {
			channel_reset(ch);
			return;
		}
	}
}

static void channel_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct channel *ch = container_of(watch, struct channel, watch);

	(void)loop;
	/* Once our own side is shut down, EPOLLHUP says no more than the end of input does. */
	if ((events & EPOLLERR) || ((events & EPOLLHUP) && !ch->shut)) {
		channel_gone(ch);
		return;
	}
	if ((events & ~(uint32_t)EPOLLOUT) && ch->state == OPENED && !ch->ended) {
		ch->readable = true;
		channel_ready(ch, 0);
	}
	if (events & EPOLLOUT)
		channel_flush(ch);
}

/* From here on the descriptor is the channel's. 0 or -errno. */
int channel_open(struct channel *ch)
{
	ch->state = OPENED;
	return loop_add(ch->mux->loop, &ch->watch, ch->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, channel_event);
}

/* Data waits in the descriptor for credit. When its owner is gone it does not wait for ever. */
static void channel_stalled(struct channel *ch)
{
	uint8_t byte;

	if (!ch->gone)
		return;
	if (recv(ch->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
		channel_reset(ch);
	else if (ch->linger.due_ms == 0)
		channel_linger(ch);
}

static ssize_t channel_receive(struct channel *ch, uint8_t *data, size_t len)
{
	size_t said = buf_len(&ch->said);
	ssize_t n;

	if (said > 0) {
		len = len < said ? len : said;
		memcpy(data, buf_head(&ch->said), len);
		buf_consume(&ch->said, len);
		return (ssize_t)len;
	}
	if (ch->end != NULL)
		return ch->end->ops->read(ch->end, data, len);
	n = recv(ch->fd, data, len, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

/* Our half is over. An end has nothing to do with what may still come. */
static void channel_end(struct channel *ch)
{
	struct mux_end *end = end_take(ch);

	mux_put(ch->mux, FRAME_EOF, ch->id, 0);
	ch->ended = true;
	ch->gone = end != NULL;
	if (ch->peer_ended)
		channel_over(ch);
	if (end != NULL)
		end->ops->gone(end, NULL, 0);
}

/* Reads straight into the link's output, behind the room for the header. */
static void channel_read(struct channel *ch)
{
	struct mux *mux = ch->mux;
	size_t want = mux_room(mux) - MUX_HEADER;
	ssize_t n;

	if (want > MUX_DATA_MAX)
		want = MUX_DATA_MAX;
	if (want > ch->send_credit)
		want = ch->send_credit;
	if (want == 0) {
		channel_stalled(ch);
		return;
	}
	n = channel_receive(ch, mux->out + mux->out_end + MUX_HEADER, want);
	if (n > 0) {
		mux_put(mux, FRAME_DATA, ch->id, (uint32_t)n);
		mux->out_end += (size_t)n;
		ch->send_credit -= (uint32_t)n;
		loop_disarm(mux->loop, &ch->linger);
		channel_ready(ch, 0);
	} else if (n == 0 && !ch->gone) {
		channel_end(ch);
	} else if ((n == -EAGAIN || n == -EINTR) && !ch->gone) {
		ch->readable = false;
	} else {
		channel_reset(ch);
	}
}

void channel_turn(struct channel *ch)
{
	struct mux *mux = ch->mux;
	unsigned due = ch->due;

	channel_unready(ch);
	if (due & DUE_OPEN) {
		mux_put(mux, FRAME_OPEN, ch->id, ch->port);
		ch->state = OPENING;
	}
	if (due & DUE_ACCEPT)
		mux_put(mux, FRAME_ACCEPT, ch->id, 0);
	if ((due & DUE_CREDIT) && !ch->gone && !ch->peer_ended) {
		mux_put(mux, FRAME_CREDIT, ch->id, ch->unreturned);
		ch->recv_credit += ch->unreturned;
		ch->unreturned = 0;
	}
	if (ch->state == OPENED && ch->readable && !ch->ended)
		channel_read(ch);
}

bool mux_end_possible(struct mux *mux, uint32_t channel)
{
	const struct channel *ch = channel_find(mux, channel);

	return ch != NULL && ch->state == OPENED && !ch->gone && !ch->ended && ch->end == NULL;
}

int mux_end_attach(struct mux *mux, uint32_t channel, struct mux_end *end, const struct mux_end_ops *ops, struct buf *heard, struct buf *said)
{
	struct channel *ch = channel_find(mux, channel);
	size_t len = buf_len(heard);

	if (!mux_end_possible(mux, channel))
		return -ENOENT;
	if (buf_len(&ch->queue) > 0 && buf_append(heard, buf_head(&ch->queue), buf_len(&ch->queue), QUEUE_MAX) < 0)
		return -ENOBUFS;
	buf_free(&ch->queue);
	ch->queue = *heard;
	ch->said = *said;
	*heard = *said = (struct buf){ 0 };
	ch->heard = len;
	ch->shut = false;
	loop_del(mux->loop, &ch->watch);
	close(ch->fd);
	ch->fd = -1;
	*end = (struct mux_end){ .ops = ops, .channel = ch };
	ch->end = end;
	return 0;
}

void mux_end_readable(struct mux_end *end)
{
	struct channel *ch = end->channel;

	if (ch == NULL || ch->state != OPENED)
		return;
	ch->readable = true;
	channel_ready(ch, 0);
}

void mux_end_writable(struct mux_end *end)
{
	if (end->channel != NULL)
		channel_flush(end->channel);
}

const uint8_t *mux_end_rest(const struct mux_end *end, size_t *len)
{
	*len = end->channel ? buf_len(&end->channel->queue) : 0;
	return *len > 0 ? buf_head(&end->channel->queue) : NULL;
}

void mux_end_close(struct mux_end *end)
{
	struct channel *ch = end->channel;

	if (ch == NULL)
		return;
	end_take(ch);
	if (buf_len(&ch->said) > 0)
		channel_gone(ch);
	else
		channel_reset(ch);
}
