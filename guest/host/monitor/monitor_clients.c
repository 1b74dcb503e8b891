/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_clients.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor_client.h"

enum { PAUSE_MS = 100 };

static void refuse(int fd)
{
	static const char text[] = "too many clients";
	uint8_t frame[WIRE_HEADER + sizeof(text)] = { 0, 0, 0, sizeof(text), FRAME_ERROR };

	memcpy(frame + WIRE_HEADER + 1, text, sizeof(text) - 1);
	(void)!send(fd, frame, sizeof(frame), MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

void clients_add(struct clients *clients, int fd)
{
	struct client *client = clients->count < CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;

	if (clients->count >= CLIENTS_MAX) {
		refuse(fd);
		return;
	}
	if (client == NULL || client_start(client, clients, fd) < 0) {
		free(client);
		close(fd);
		return;
	}
	clients->count++;
	LIST_INSERT_HEAD(&clients->list, client, entry);
}

static void forget(struct client *client)
{
	LIST_REMOVE(client, entry);
	client->clients->count--;
	client_free(client);
}

static void accept_again(struct loop *loop, struct timer *timer)
{
	struct clients *clients = container_of(timer, struct clients, pause);

	loop_change(loop, &clients->listener, EPOLLIN);
}

static void listener_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct clients *clients = container_of(watch, struct clients, listener);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		clients_add(clients, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		loop_change(loop, watch, 0);
		loop_arm(loop, &clients->pause, PAUSE_MS, accept_again);
	}
}

int clients_start(struct clients *clients, struct loop *loop, const struct clients_ops *ops, uint8_t offers, int fd)
{
	clients->loop = loop;
	clients->ops = ops;
	clients->offers = offers;
	LIST_INIT(&clients->list);
	return fd < 0 ? 0 : loop_add(loop, &clients->listener, fd, EPOLLIN, listener_event);
}

static bool wants(const struct client *client, enum frame stream)
{
	return client->flags & (stream == FRAME_STDOUT ? ATTACH_STDOUT : ATTACH_STDERR);
}

void clients_output(struct clients *clients, enum frame stream, const uint8_t *data, size_t len)
{
	struct client *client;

	LIST_FOREACH (client, &clients->list, entry)
		if (!client->dead && wants(client, stream))
			client_output(client, stream, data, len);
}

bool clients_hold(const struct clients *clients, enum frame stream)
{
	const struct client *client;

	LIST_FOREACH (client, &clients->list, entry)
		if (!client->dead && (client->flags & ATTACH_HOLD) && wants(client, stream) && buf_len(&client->out) > CLIENT_HOLD_MAX)
			return true;
	return false;
}

void clients_resume(struct clients *clients)
{
	struct client *client;

	LIST_FOREACH (client, &clients->list, entry)
		if (!client->dead && client->waits)
			client_resume(client);
}

void clients_end(struct clients *clients, const char *text)
{
	struct client *client;

	clients->end = text;
	LIST_FOREACH (client, &clients->list, entry)
		if (!client->dead && !client->closing)
			client_end(client, text);
}

void clients_sweep(struct clients *clients)
{
	struct client *client = LIST_FIRST(&clients->list);

	while (client != NULL) {
		struct client *next = LIST_NEXT(client, entry);

		if (client->dead)
			forget(client);
		client = next;
	}
}

size_t clients_queued(const struct clients *clients)
{
	const struct client *client;
	size_t queued = 0;

	LIST_FOREACH (client, &clients->list, entry)
		queued += buf_len(&client->out);
	return queued;
}

void clients_fini(struct clients *clients)
{
	struct client *client;

	while ((client = LIST_FIRST(&clients->list)) != NULL)
		forget(client);
	loop_disarm(clients->loop, &clients->pause);
	if (clients->listener.fn != NULL)
		close(clients->listener.fd);
	loop_del(clients->loop, &clients->listener);
}
