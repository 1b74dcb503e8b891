/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent: all that PID 1 knows, in one structure that is passed around. Limits are those of docs/agent-protocol.md.
 */
#ifndef RUNV_AGENT_H
#define RUNV_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "cgroup.h"
#include "error.h"
#include "jsonget.h"
#include "loop.h"
#include "park.h"

enum {
	PROTOCOL_VERSION = 1,
	PORT_CONTROL = 1024,
	PORT_STREAM = 1025,
	FIRST_FRAME_MAX = 4096,
	FIRST_FRAME_MS = 10000,
	CONNECTIONS_MAX = 1024,
	PENDING_MAX = 64,
	CONTAINERS_MAX = 256,
	PROCESSES_MAX = 1024,
	ID_MAX = 128,
	SECRET_LEN = 64,
};

struct conn;
struct container;
struct helper;
struct mux;
struct relay;
struct reply;

enum transport { TRANSPORT_SERIAL, TRANSPORT_VSOCK, TRANSPORT_TEST };

struct agent {
	struct loop loop;
	enum transport transport;
	bool test; /* on a developer's machine, in namespaces: what the machine lacks is done without */
	int log_fd;
	int device_filters[DEVICE_FILTERS_KEPT]; /* device_filters_keep */

	/* listen.c */
	struct mux *mux;
	int link_fd;
	struct timer link_timer;
	struct watch uevents;
	struct watch listeners[2];
	struct timer accept_timer;

	/* signals.c */
	struct watch signals;

	/* conn.c */
	struct conn *conns;
	unsigned int conn_count;
	bool claimed;
	char secret[SECRET_LEN];

	/* container.c */
	int spare_cgroup; /* cgroup_init; -1: it was given away */
	struct container *containers;
	unsigned int container_count;
	unsigned int process_count;

	/* helper.c */
	struct helper *helpers;

	/* outward.c */
	struct relay *relays;

	struct park park;

	/* power.c */
	struct timer power_timer;
	bool powering_off;
	pid_t power_child;
};

/* A handler either takes the reply over and returns 0, or returns -1 with the error set, and then the caller answers. */
typedef int op_fn(struct agent *agent, const struct node *args, struct reply *reply, struct error *error);

/* NULL: no such operation */
op_fn *agent_op(const char *name);

void agent_log(const struct agent *agent, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool id_valid(const char *id);

#endif
