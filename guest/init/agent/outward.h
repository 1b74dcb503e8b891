/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outward: connections that begin in the guest and end on the host (docs/agent-protocol.md, "Relays"). Each relay is a process of its own, forked from
 * PID 1: it listens, and passes on what comes over its connection from the host, with which it ends.
 */
#ifndef RUNV_OUTWARD_H
#define RUNV_OUTWARD_H

#include <netinet/in.h>
#include <sys/queue.h>

#include "agent.h"
#include "mux.h"
#include "redirect.h"
#include "wire.h"

enum {
	RELAYS_MAX = 2 * CONTAINERS_MAX,
	LISTENERS_MAX = 256,
	FLOWS_MAX = 256,
	FLOW_IDLE_MS = 15000,
};

/* What such a process does: in is what came behind the first frame, more comes over LINK (link.h). It ends when this returns. */
typedef void outward_fn(struct buf *in);

/* outward.c, in PID 1. Forks a process for a connection that was authenticated; data is what came behind its first frame. fd stays the caller's. */
int outward_start(struct agent *agent, int fd, const uint8_t *data, size_t len, outward_fn *work, struct error *error);
/* Whether pid was a relay's; it is none any more. */
bool outward_reaped(struct agent *agent, pid_t pid);

/* The rest is the relay's own. */

outward_fn outward_run;

enum listener_type { LISTEN_STREAM, LISTEN_SEQPACKET, LISTEN_DGRAM, LISTEN_TCP, LISTEN_UDP };

struct flow;

struct listener {
	struct outward *outward;
	enum listener_type type;
	uint32_t port; /* of the multiplexer: its place in the list */
	int fd;
	struct watch watch;
	struct timer pause;
	struct redirect redirect;
	TAILQ_HEAD(, flow) flows; /* those that were used last at the end */
	unsigned int flow_count;
	char path[64]; /* "": not a unix socket */
};

struct outward {
	struct loop loop;
	struct mux *mux;
	char folder[48]; /* "": none was needed */
	size_t count;
	struct listener listeners[LISTENERS_MAX];
};

/* outward_listen.c */
int listener_open(struct outward *outward, const struct node *entry, struct error *error);
int listener_watch(struct listener *listener);
void listeners_close(struct outward *outward);

#endif
