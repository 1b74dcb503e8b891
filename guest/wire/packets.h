/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packets: datagrams on a byte stream, each as its length (2 bytes, big-endian) and its bytes; and the pump, which passes them on to and from a socket
 * that has datagrams of its own. Both ends of a relay use it (docs/agent-protocol.md, "Relays").
 */
#ifndef RUNV_PACKETS_H
#define RUNV_PACKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "wire.h"

enum { PACKET_HEADER = 2, PACKET_MAX = 65535 };

enum packet_verdict { PACKET_TAKEN, PACKET_LATER, PACKET_BROKEN };

struct packets_ops {
	/* LATER: it comes again after packets_resume. BROKEN: ended(hung) follows. It must not free the packets itself. */
	enum packet_verdict (*packet)(void *arg, const uint8_t *data, size_t len);
	/* All that packets_send took has gone out. */
	void (*drained)(void *arg);
	/* No more comes; hung: nor can any be sent. The owner may free the packets. */
	void (*ended)(void *arg, bool hung);
};

struct packets {
	struct loop *loop;
	const struct packets_ops *ops;
	void *arg;
	struct watch watch;
	struct buf in, out;
	int fd;
	bool held;  /* the owner takes none for now */
	bool ended; /* the end of the input was seen */
	bool finishing;
};

/* Takes a connected, non-blocking stream socket over, also where it fails. 0 or -errno. */
int packets_init(struct packets *packets, struct loop *loop, int fd, const struct packets_ops *ops, void *arg);
void packets_fini(struct packets *packets);

/* Whether one more can be sent; if not, drained() tells. */
bool packets_ready(const struct packets *packets);
/* 0; -EAGAIN when it is not ready; -EMSGSIZE; or another -errno, and then ended() follows by itself. */
int packets_send(struct packets *packets, const void *data, size_t len);
/* No more will be sent. */
void packets_finish(struct packets *packets);
void packets_resume(struct packets *packets);

/*
 * Passes packets on between stream and fd, a connected, non-blocking SOCK_SEQPACKET or SOCK_DGRAM socket, until either end has ended, and frees itself then.
 * Takes both over, also where it fails. 0 or -errno.
 */
int pump_start(struct loop *loop, int stream, int fd, bool seqpacket);

#endif
