/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: connections from the host, of either port, until they end or become the stream of a process; and replies, which outlive the connection
 * they are for: an operation that takes time holds one, and finds it detached when nobody waits any more.
 */
#ifndef RUNV_CONN_H
#define RUNV_CONN_H

#include "agent.h"
#include "wire.h"

struct reply {
	struct conn *conn; /* NULL: the connection has ended */
	struct reply *next;
	json_int_t id;
};

/* Consumes fd, which must be a connected stream socket; the other end of it is the multiplexer's, for that channel, or the host's (0). */
void conn_accept(struct agent *agent, int fd, unsigned int port, uint32_t channel);

/* Both consume the reply, reply_ok the result too (NULL: an empty object, or out of memory when oom is set by the caller's own means). */
void reply_ok(struct reply *reply, json_t *result);
void reply_error(struct reply *reply, const struct error *error);

/* Whether it can be a secret: 64 hexadecimal digits, in lower case */
bool secret_valid(const char *secret);

/* Ends every connection but this one; may be NULL. */
void conns_close_others(struct agent *agent, const struct conn *conn);

/* Closes a connected socket such that what was sent before still arrives. Consumes fd. */
void conn_close_fd(int fd);

#endif
