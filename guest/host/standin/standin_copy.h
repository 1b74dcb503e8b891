/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copying of the stand-in: standard descriptors or a terminal on one side, stream connections on the other.
 *
 * Every descriptor is watched edge-triggered and remembered as readable or writable until it says EAGAIN, so nothing spins whatever hangs up. A pump
 * holds at most one buffer, and reads only when that is empty: a reader that does not read stops its own stream and no other.
 */
#ifndef RUNV_STANDIN_COPY_H
#define RUNV_STANDIN_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "wire.h"

enum { COPY_PUMPS_MAX = 3, COPY_BUFFER = 65536 };

struct copier;

struct end {
	struct copier *copier;
	struct watch watch;
	int fd; /* -1: closed */
	bool pipe, socket, terminal;
	bool shared; /* the file description is the caller's as well and may not be made non-blocking: asked first, and only for little */
	bool readable, writable;
	bool hung; /* the other side of a stream connection is gone */
};

struct pump {
	struct end *from, *to;
	bool output; /* from the guest */
	bool splice, eof, done;
	struct buf rest;
};

struct copier {
	struct loop *loop;
	struct end ends[2 * COPY_PUMPS_MAX];
	struct pump pumps[COPY_PUMPS_MAX];
	int end_count, pump_count;
	uint8_t scratch[COPY_BUFFER];
};

/* Three stream connections and the descriptors 0, 1 and 2. */
int copier_start_streams(struct copier *copier, struct loop *loop, const int streams[3]);

/* One stream connection and a terminal. */
int copier_start_terminal(struct copier *copier, struct loop *loop, int stream, int terminal);

/* Gives each pump its turn. True: there is more to do at once. */
bool copier_run(struct copier *copier);

/* All that came from the guest is written, or cannot be. */
bool copier_drained(const struct copier *copier);

/* The terminal is gone: so must be the guest's. */
void copier_hangup(struct copier *copier);

/* The stand-in may have come to the foreground: the terminal can be read again. */
void copier_resume(struct copier *copier);

/* The terminal's size. False: none, or unknown. */
bool copier_size(const struct copier *copier, unsigned *rows, unsigned *columns);

#endif
