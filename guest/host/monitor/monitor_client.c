/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	CONTROL_ROOM = 8192, /* in a queue, for what is not output */
	IN_MAX = WIRE_HEADER + 1 + CLIENT_FRAME_MAX,
	STATUS_MAX = 1024,
};

static void client_event(struct loop *loop, struct watch *watch, uint32_t events);

/* What it is watched for. One that has hung up would be reported for ever, so while its input waits it is not watched at all. */
static void client_update(struct client *client)
{
	struct loop *loop = client->clients->loop;
	uint32_t events = (client->waits || client->finished ? 0 : EPOLLIN) | (buf_len(&client->out) > 0 ? EPOLLOUT : 0);

	if (client->dead)
		return;
	if (client->waits && client->silent)
		loop_del(loop, &client->watch);
	else if (client->watch.fn == NULL)
		client->dead = loop_add(loop, &client->watch, client->fd, events, client_event) < 0;
	else
		loop_change(loop, &client->watch, events);
}

/* It reads nothing any more. What it had sent before counts. */
static void client_silence(struct client *client)
{
	client->silent = true;
	buf_free(&client->out);
}

static void client_flush(struct client *client)
{
	while (buf_len(&client->out) > 0) {
		ssize_t n = send(client->fd, buf_head(&client->out), buf_len(&client->out), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			client_silence(client);
			return;
		}
		buf_consume(&client->out, (size_t)n);
	}
	/* It hangs up when it has read that: were it we, what it still sends would cost it what it has not read. */
	if (client->closing)
		shutdown(client->fd, SHUT_WR);
}

/* False: there is no room for it. */
static bool client_frame(struct client *client, enum frame kind, const void *data, size_t len, size_t max)
{
	uint8_t head[WIRE_HEADER + 1] = { (uint8_t)((len + 1) >> 24), (uint8_t)((len + 1) >> 16), (uint8_t)((len + 1) >> 8), (uint8_t)(len + 1),
					  (uint8_t)kind };

	if (client->silent || client->closing)
		return true;
	if (buf_len(&client->out) + sizeof(head) + len > max || buf_append(&client->out, head, sizeof(head), max) < 0)
		return false;
	if (buf_append(&client->out, data, len, max) == 0)
		return true;
	/* Half a frame would shift all that follow. */
	client_silence(client);
	return true;
}

static void client_control(struct client *client, enum frame kind, const void *data, size_t len)
{
	/* Who asks and does not read the answers is not served. */
	if (!client_frame(client, kind, data, len, CLIENT_QUEUE_MAX + CONTROL_ROOM))
		client_silence(client);
}

/* False: it cannot be told now either. */
static bool client_tell_lost(struct client *client, size_t max)
{
	for (uint8_t stream = FRAME_STDOUT; stream <= FRAME_STDERR; stream++) {
		uint8_t text[9] = { stream };

		if (client->lost[stream] == 0)
			continue;
		for (int i = 0; i < 8; i++)
			text[1 + i] = (uint8_t)(client->lost[stream] >> (56 - 8 * i));
		if (!client_frame(client, FRAME_LOST, text, sizeof(text), max))
			return false;
		client->lost[stream] = 0;
	}
	return true;
}

/* Nobody is at the other end. */
static void client_gone(struct client *client)
{
	if (client->dead)
		return;
	client->dead = true;
	if ((client->flags & ATTACH_STDIN) && !client->stdin_ended)
		client->clients->ops->input_end(client->clients);
}

static void client_last(struct client *client, enum frame kind, const char *text)
{
	client_tell_lost(client, CLIENT_QUEUE_MAX + CONTROL_ROOM);
	client_control(client, kind, text, strlen(text));
	client->closing = true;
	/* Nothing it sends is of interest any more; its hangup is. */
	client->waits = false;
	buf_free(&client->in);
	client_flush(client);
}

/* What it sent cannot be understood, so neither can what follows. */
static void client_refuse(struct client *client, const char *text)
{
	client_last(client, FRAME_ERROR, text);
	client_gone(client);
}

static void client_attach(struct client *client, const uint8_t *data, size_t len)
{
	struct clients *clients = client->clients;

	if (len != 1 || client->attached || (data[0] & ~(ATTACH_STDIN | ATTACH_STDOUT | ATTACH_STDERR | ATTACH_HOLD)) != 0) {
		client_refuse(client, "attach: once, with one byte of known flags");
		return;
	}
	client->flags = data[0];
	client->attached = clients->attached = true;
	client_control(client, FRAME_ATTACHED, &clients->offers, 1);
	if (clients->end != NULL)
		client_last(client, FRAME_EXIT, clients->end);
}

static void client_stdin(struct client *client, const uint8_t *data, size_t len)
{
	struct clients *clients = client->clients;

	if (!(client->flags & ATTACH_STDIN) || client->stdin_ended) {
		client_refuse(client, "stdin: not attached, or ended before");
		return;
	}
	if (len > 0) {
		clients->ops->input(clients, data, len);
		return;
	}
	client->stdin_ended = true;
	clients->ops->input_end(clients);
}

static void client_reopen(struct client *client)
{
	int ret = client->clients->ops->reopen(client->clients);
	const char *text = ret < 0 ? strerror(-ret) : "";

	client_control(client, FRAME_DONE, text, strlen(text));
}

static void client_status(struct client *client)
{
	char text[STATUS_MAX];
	size_t len = client->clients->ops->status(client->clients, text, sizeof(text));

	client_control(client, FRAME_STATE, text, len);
}

static void client_do(struct client *client, uint8_t kind, const uint8_t *data, size_t len)
{
	switch (kind) {
	case FRAME_STDIN:
		client_stdin(client, data, len);
		break;
	case FRAME_ATTACH:
		client_attach(client, data, len);
		break;
	case FRAME_RESIZE:
		if (len == 4)
			client->clients->ops->resize(client->clients, data[0] << 8 | data[1], data[2] << 8 | data[3]);
		else
			client_refuse(client, "resize: four bytes");
		break;
	case FRAME_REOPEN:
		client_reopen(client);
		break;
	case FRAME_STATUS:
		client_status(client);
		break;
	default:
		client_refuse(client, "unknown frame");
	}
}

/* All whole frames, up to input that has to wait. */
static void client_parse(struct client *client)
{
	struct clients *clients = client->clients;
	const char *payload;
	size_t len;
	int ret = 0;

	client->waits = false;
	while (!client->closing && (ret = wire_peek(&client->in, &payload, &len)) > 0) {
		const uint8_t *data = (const uint8_t *)payload;

		if (data[0] == FRAME_STDIN && !clients->ops->input_ready(clients)) {
			client->waits = true;
			return;
		}
		client_do(client, data[0], data + 1, len - 1);
		/* The last frame of a client has emptied its queue. */
		if (!client->closing)
			buf_consume(&client->in, WIRE_HEADER + len);
	}
	if (!client->closing && (ret < 0 || buf_len(&client->in) >= IN_MAX))
		client_refuse(client, "frame: empty or too long");
}

/* It has sent all it will. It may read on, unless it has hung up. */
static void client_finish(struct client *client)
{
	if (client->silent) {
		client_gone(client);
		return;
	}
	client->finished = true;
	if ((client->flags & ATTACH_STDIN) && !client->stdin_ended) {
		client->stdin_ended = true;
		client->clients->ops->input_end(client->clients);
	}
}

static void client_read(struct client *client)
{
	struct clients *clients = client->clients;
	size_t room = client->closing ? sizeof(clients->scratch) : IN_MAX - buf_len(&client->in);
	ssize_t n = recv(client->fd, clients->scratch, room < sizeof(clients->scratch) ? room : sizeof(clients->scratch), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		client_gone(client);
	if (n == 0)
		client_finish(client);
	if (n <= 0)
		return;
	if (client->closing)
		return;
	if (buf_append(&client->in, clients->scratch, (size_t)n, IN_MAX) < 0) {
		client_gone(client);
		return;
	}
	client_parse(client);
}

static void client_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct client *client = container_of(watch, struct client, watch);

	(void)loop;
	if (client->dead)
		return;
	if (events & (EPOLLHUP | EPOLLERR))
		client_silence(client);
	if (!client->waits && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		client_read(client);
	if (!client->dead)
		client_flush(client);
	client_update(client);
}

int client_start(struct client *client, struct clients *clients, int fd)
{
	client->clients = clients;
	client->fd = fd;
	return loop_add(clients->loop, &client->watch, fd, EPOLLIN, client_event);
}

void client_output(struct client *client, enum frame stream, const uint8_t *data, size_t len)
{
	if (!client_tell_lost(client, CLIENT_QUEUE_MAX) || !client_frame(client, stream, data, len, CLIENT_QUEUE_MAX))
		client->lost[stream] += len;
	client_flush(client);
	client_update(client);
}

void client_resume(struct client *client)
{
	client_parse(client);
	client_flush(client);
	client_update(client);
}

void client_end(struct client *client, const char *text)
{
	client_last(client, FRAME_EXIT, text);
	client_update(client);
}

void client_free(struct client *client)
{
	loop_del(client->clients->loop, &client->watch);
	close(client->fd);
	buf_free(&client->in);
	buf_free(&client->out);
	free(client);
}
