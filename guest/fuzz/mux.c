/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the accepting end of the multiplexer with whatever comes over the link, while its channels talk and end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mux.h"

enum { PEERS_MAX = 64, ENDS_MAX = 8, ECHO_MAX = 10000 };

/* A channel without a descriptor: it says what it hears */
struct echo {
	struct mux_end end;
	int peer; /* what the agent has until then, -1: nothing to take over */
	uint32_t channel;
	size_t held;
	bool over;
	uint8_t data[ECHO_MAX];
};

struct guest {
	struct loop loop;
	struct mux *mux;
	int peers[PEERS_MAX]; /* what the agent would have: the other ends of the channels */
	size_t count;
	uint32_t owed[PEERS_MAX]; /* channels that accept will answer later */
	size_t owed_count;
	struct echo ends[ENDS_MAX];
	bool down;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int accept_channel(void *arg, uint32_t port, uint32_t channel)
{
	struct guest *guest = arg;
	int pair[2];
	struct echo *echo = &guest->ends[channel % ENDS_MAX];

	if (port % 8 == 3 && guest->owed_count < PEERS_MAX) {
		guest->owed[guest->owed_count++] = channel;
		return -EINPROGRESS;
	}
	if (guest->count == PEERS_MAX || port == 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -111;
	if (port % 8 == 5 && echo->peer < 0 && echo->end.channel == NULL)
		*echo = (struct echo){ .peer = pair[0], .channel = channel };
	else
		guest->peers[guest->count++] = pair[0];
	return pair[1];
}

static void link_down(void *arg, int error)
{
	struct guest *guest = arg;

	(void)error;
	guest->down = true;
}

/* One that was owed an answer gets it, a refusal for each third. */
static void answer_one(struct guest *guest, uint8_t choice)
{
	uint32_t channel;
	int fd;

	if (guest->owed_count == 0)
		return;
	channel = guest->owed[--guest->owed_count];
	fd = choice % 3 ? accept_channel(guest, 1, channel) : -ECONNREFUSED;
	if (mux_answer(guest->mux, channel, fd) < 0 && fd >= 0)
		close(fd);
}

static ssize_t echo_write(struct mux_end *end, const struct iovec *parts, int count)
{
	struct echo *echo = container_of(end, struct echo, end);
	ssize_t taken = 0;

	for (int i = 0; i < count && echo->held < ECHO_MAX; i++) {
		size_t len = parts[i].iov_len < ECHO_MAX - echo->held ? parts[i].iov_len : ECHO_MAX - echo->held;

		memcpy(echo->data + echo->held, parts[i].iov_base, len);
		echo->held += len;
		taken += (ssize_t)len;
	}
	if (echo->held > 0 && echo->data[0] == 0xee)
		return -EPIPE;
	return taken > 0 ? taken : -EAGAIN;
}

static ssize_t echo_read(struct mux_end *end, uint8_t *data, size_t len)
{
	struct echo *echo = container_of(end, struct echo, end);

	if (echo->held == 0)
		return echo->over ? 0 : -EAGAIN;
	len = len < echo->held ? len : echo->held;
	memcpy(data, echo->data, len);
	memmove(echo->data, echo->data + len, echo->held - len);
	echo->held -= len;
	return (ssize_t)len;
}

static void echo_shut(struct mux_end *end)
{
	container_of(end, struct echo, end)->over = true;
}

static void echo_gone(struct mux_end *end, const uint8_t *rest, size_t len)
{
	struct echo *echo = container_of(end, struct echo, end);

	if (len > 0 && rest[len - 1] == 0xee)
		echo->held = 0;
}

static void take_over(struct guest *guest, struct echo *echo)
{
	static const struct mux_end_ops ops = { .write = echo_write, .read = echo_read, .shut = echo_shut, .gone = echo_gone };
	struct buf heard = { 0 }, said = { 0 };
	uint8_t scratch[4096];
	ssize_t n;

	if (mux_end_possible(guest->mux, echo->channel)) {
		if (buf_append(&said, "said", 4, 4) < 0)
			abort();
		while ((n = recv(echo->peer, scratch, sizeof(scratch), MSG_DONTWAIT)) > 0)
			if (buf_append(&heard, scratch, (size_t)n, MUX_WINDOW) < 0)
				abort();
		if (mux_end_attach(guest->mux, echo->channel, &echo->end, &ops, &heard, &said) < 0)
			abort();
	}
	close(echo->peer);
	echo->peer = -1;
}

/* Those without descriptors do as their owner would, and one in sixteen is closed. */
static void talk_ends(struct guest *guest, uint8_t choice)
{
	for (size_t i = 0; i < ENDS_MAX; i++) {
		struct echo *echo = &guest->ends[i];

		if (echo->peer >= 0)
			take_over(guest, echo);
		mux_end_readable(&echo->end);
		mux_end_writable(&echo->end);
		if ((choice + i) % 16 == 2)
			mux_end_close(&echo->end);
	}
}

/* Each of them echoes, and one in three goes away. */
static void talk(struct guest *guest, uint8_t choice)
{
	char scratch[4096];

	for (size_t i = 0; i < guest->count; i++) {
		ssize_t n = recv(guest->peers[i], scratch, sizeof(scratch), MSG_DONTWAIT);

		if (n > 0)
			(void)!send(guest->peers[i], scratch, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if ((choice + i) % 16 == 0)
			shutdown(guest->peers[i], SHUT_WR);
		if ((choice + i) % 16 == 1) {
			close(guest->peers[i]);
			guest->peers[i] = guest->peers[--guest->count];
		}
	}
}

/* Byte 0: the size of the pieces */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct mux_ops ops = { .accept = accept_channel, .down = link_down };
	static struct guest guest;
	char scratch[65536];
	int pair[2];
	size_t piece;

	if (size < 1)
		return 0;
	guest = (struct guest){ .count = 0 };
	for (size_t i = 0; i < ENDS_MAX; i++)
		guest.ends[i].peer = -1;
	if (loop_init(&guest.loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	guest.mux = mux_new(&guest.loop, &ops, &guest);
	if (!guest.mux || mux_attach(guest.mux, pair[0]) < 0)
		abort();
	piece = 1 + data[0] * 4u;
	for (size_t at = 1; at < size && !guest.down; at += piece) {
		size_t len = size - at < piece ? size - at : piece;

		(void)!send(pair[1], data + at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		for (int i = 0; i < 3; i++)
			(void)loop_once(&guest.loop, 0);
		talk(&guest, data[at]);
		talk_ends(&guest, data[at]);
		if (data[at] % 4 == 1)
			answer_one(&guest, data[at]);
		while (recv(pair[1], scratch, sizeof(scratch), MSG_DONTWAIT) > 0)
			;
	}
	shutdown(pair[1], SHUT_RDWR);
	close(pair[1]);
	for (int i = 0; i < 3; i++)
		(void)loop_once(&guest.loop, 0);
	mux_free(guest.mux);
	for (size_t i = 0; i < guest.count; i++)
		close(guest.peers[i]);
	for (size_t i = 0; i < ENDS_MAX; i++)
		if (guest.ends[i].peer >= 0)
			close(guest.ends[i].peer);
	close(pair[0]);
	loop_fini(&guest.loop);
	return 0;
}
