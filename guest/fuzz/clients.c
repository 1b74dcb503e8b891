/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes who attaches to a monitor: frames in pieces of any size from several clients, which read, are slow, or go away, while there is output. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor_clients.h"

enum { PEERS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct owner {
	struct clients clients;
	bool busy;
};

static struct owner *owner_of(struct clients *clients)
{
	return container_of(clients, struct owner, clients);
}

static bool input_ready(struct clients *clients)
{
	return !owner_of(clients)->busy;
}

static void input(struct clients *clients, const uint8_t *data, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum ^= data[i];
	owner_of(clients)->busy = sum & 1;
}

static void input_end(struct clients *clients)
{
	(void)clients;
}

static void resize(struct clients *clients, unsigned int rows, unsigned int columns)
{
	(void)clients;
	if (rows > UINT16_MAX || columns > UINT16_MAX)
		abort();
}

static int reopen(struct clients *clients)
{
	return owner_of(clients)->busy ? -1 : 0;
}

static size_t status(struct clients *clients, char *text, size_t size)
{
	(void)clients;
	memset(text, 'x', size);
	return size;
}

static const struct clients_ops ops = {
	.input_ready = input_ready, .input = input, .input_end = input_end, .resize = resize, .reopen = reopen, .status = status
};

static void turn(struct owner *owner)
{
	for (int i = 0; i < 3; i++) {
		(void)loop_once(owner->clients.loop, 0);
		clients_sweep(&owner->clients);
	}
}

static void behave(struct owner *owner, int *peer, uint8_t choice)
{
	static uint8_t text[65536];

	if (choice & 1)
		clients_output(&owner->clients, choice & 2 ? FRAME_STDOUT : FRAME_STDERR, text, choice * 256u);
	if (choice & 4 && *peer >= 0)
		while (recv(*peer, text, sizeof(text), MSG_DONTWAIT) > 0)
			;
	if (choice & 8 && owner->busy) {
		owner->busy = false;
		clients_resume(&owner->clients);
	}
	if (choice % 64 == 5 && *peer >= 0)
		shutdown(*peer, SHUT_WR);
	if (choice % 64 == 6 && *peer >= 0) {
		close(*peer);
		*peer = -1;
	}
	if (choice == 255)
		clients_end(&owner->clients, "the end");
}

/* Byte 0: the size of the pieces, which go to the clients in turn */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct owner owner;
	struct loop loop;
	int peers[PEERS];
	size_t piece, count = 0;

	if (size < 1)
		return 0;
	memset(&owner, 0, sizeof(owner));
	piece = 1 + data[0] * 4u;
	if (loop_init(&loop) < 0 || clients_start(&owner.clients, &loop, &ops, 0, -1) < 0)
		abort();
	for (int i = 0; i < PEERS; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
			abort();
		clients_add(&owner.clients, pair[0]);
		peers[i] = pair[1];
	}
	for (size_t at = 1; at < size; at += piece, count++) {
		size_t len = size - at < piece ? size - at : piece;
		int *peer = &peers[count / 8 % PEERS];

		if (*peer >= 0)
			(void)!send(*peer, data + at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		turn(&owner);
		behave(&owner, peer, data[at]);
		(void)clients_hold(&owner.clients, FRAME_STDOUT);
		turn(&owner);
	}
	owner.busy = false;
	clients_resume(&owner.clients);
	clients_end(&owner.clients, "the end");
	for (int i = 0; i < PEERS; i++)
		if (peers[i] >= 0)
			close(peers[i]);
	/* Input that none will take any more is passed over; then all of them are gone. */
	for (int i = 0; i < 100 && owner.clients.count > 0; i++) {
		owner.busy = false;
		clients_resume(&owner.clients);
		turn(&owner);
	}
	if (owner.clients.count > 0 || clients_queued(&owner.clients) > 0)
		abort();
	clients_fini(&owner.clients);
	loop_fini(&loop);
	return 0;
}
