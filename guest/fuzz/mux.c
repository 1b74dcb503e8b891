/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the accepting end of the multiplexer with whatever comes over the link, while its channels talk and end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mux.h"

enum { PEERS_MAX = 64 };

struct guest {
	struct loop loop;
	struct mux *mux;
	int peers[PEERS_MAX]; /* what the agent would have: the other ends of the channels */
	size_t count;
	uint32_t owed[PEERS_MAX]; /* channels that accept will answer later */
	size_t owed_count;
	bool down;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int accept_channel(void *arg, uint32_t port, uint32_t channel)
{
	struct guest *guest = arg;
	int pair[2];

	if (port % 8 == 3 && guest->owed_count < PEERS_MAX) {
		guest->owed[guest->owed_count++] = channel;
		return -EINPROGRESS;
	}
	if (guest->count == PEERS_MAX || port == 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -111;
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
	struct guest guest = { .count = 0, .owed_count = 0 };
	char scratch[65536];
	int pair[2];
	size_t piece;

	if (size < 1)
		return 0;
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
	close(pair[0]);
	loop_fini(&guest.loop);
	return 0;
}
