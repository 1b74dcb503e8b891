/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the pump: packets on a stream in pieces of any size, a socket behind it that echoes, is slow or goes away, and packets back. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void turn(struct loop *loop)
{
	for (int i = 0; i < 4; i++)
		(void)loop_once(loop, 0);
}

/* How the one behind it behaves */
static void behave(int *peer, uint8_t choice)
{
	static uint8_t packet[PACKET_MAX + 2];
	ssize_t n = 0;

	if (*peer < 0)
		return;
	if (choice % 4)
		n = recv(*peer, packet, sizeof(packet), MSG_DONTWAIT);
	if (choice % 4 == 2 && n > 0)
		(void)!send(*peer, packet, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (choice % 64 == 5)
		shutdown(*peer, SHUT_WR);
	if (choice % 64 == 6) {
		close(*peer);
		*peer = -1;
	}
	if (choice % 64 == 7)
		(void)!send(*peer, packet, sizeof(packet), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Byte 0: the kind of the socket, whether the stream is read, and the size of the pieces */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop loop;
	int stream[2], socket[2];
	uint8_t scratch[65536];
	bool seqpacket, read_back;
	size_t piece;

	if (size < 1)
		return 0;
	seqpacket = data[0] & 1;
	read_back = data[0] & 2;
	piece = 1 + (data[0] >> 2) * 16u;
	if (loop_init(&loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, stream) < 0 ||
	    socketpair(AF_UNIX, (seqpacket ? SOCK_SEQPACKET : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, socket) < 0)
		abort();
	if (pump_start(&loop, stream[0], socket[0], seqpacket) < 0)
		abort();
	for (size_t at = 1; at < size; at += piece) {
		size_t len = size - at < piece ? size - at : piece;

		(void)!send(stream[1], data + at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		turn(&loop);
		behave(&socket[1], data[at]);
		if (read_back)
			while (recv(stream[1], scratch, sizeof(scratch), MSG_DONTWAIT) > 0)
				;
	}
	/* With both its ends gone it must end by itself: what it held would be a leak. */
	shutdown(stream[1], SHUT_WR);
	turn(&loop);
	close(stream[1]);
	if (socket[1] >= 0)
		close(socket[1]);
	turn(&loop);
	turn(&loop);
	loop_fini(&loop);
	return 0;
}
