/* SPDX-License-Identifier: Apache-2.0 */
/* monitor_client: one of those who are attached; see monitor_clients.h, which is for everybody else. */
#ifndef RUNV_MONITOR_CLIENT_H
#define RUNV_MONITOR_CLIENT_H

#include "monitor_clients.h"

enum { CLIENT_STREAMS = 3 /* a frame's first byte is a stream below that */ };

struct client {
	struct clients *clients;
	struct watch watch;
	LIST_ENTRY(client) entry;
	int fd;
	uint8_t flags; /* enum attach */
	bool attached;
	bool stdin_ended; /* has said so */
	bool waits; /* with input that cannot be taken yet */
	bool finished; /* sends nothing any more, but still reads */
	bool silent; /* takes nothing any more, but what it sent is still to be read */
	bool closing; /* was told its last frame */
	bool dead;
	uint64_t lost[CLIENT_STREAMS];
	struct buf in, out;
};

/* Starts to be served. 0 or -errno; then it is still the caller's. */
int client_start(struct client *client, struct clients *clients, int fd);

/* Output of a stream that it wants; or it is remembered as lost. */
void client_output(struct client *client, enum frame stream, const uint8_t *data, size_t len);

/* Input can be taken again. */
void client_resume(struct client *client);

/* Its last frame. */
void client_end(struct client *client, const char *text);

/* Frees it and what it holds; it is no longer in the list. */
void client_free(struct client *client);

#endif
