/* SPDX-License-Identifier: Apache-2.0 */
/* relay_target: what a connection from inside ends at, on the host. */
#ifndef RUNV_RELAY_TARGET_H
#define RUNV_RELAY_TARGET_H

#include <netinet/in.h>

#include "loop.h"

enum target_kind { TARGET_STREAM, TARGET_SEQPACKET, TARGET_DGRAM, TARGET_TCP, TARGET_UDP };

struct target {
	enum target_kind kind;
	const char *path; /* of a unix socket, without a symbolic link in it */
	struct sockaddr_in address;
};

/* KIND:/PATH or KIND:ADDRESS:PORT; it keeps a pointer into text. 0 or -EINVAL */
int target_parse(const char *text, struct target *target);

/*
 * Connects to the target; never blocks. Returns a stream socket, which for all kinds but TARGET_STREAM and TARGET_TCP carries packets, or -errno;
 * -EAGAIN: it is there, but its queue of connections is full.
 */
int target_connect(struct loop *loop, const struct target *target);

#endif
