/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes connections: frames, hello, JSON and the dispatch of requests, with operations that only read their arguments. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"
#include "container.h"
#include "outward.h"
#include "stream.h"
#include "stream_mux.h"
#include "touch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct reply *held[PENDING_MAX];

void agent_log(const struct agent *agent, const char *format, ...)
{
	(void)agent;
	(void)format;
}

void containers_conn_gone(struct agent *agent, const struct conn *conn)
{
	(void)agent;
	(void)conn;
}

struct stream *stream_find(struct agent *agent, const char *container, const char *process, const char *name, struct error *error)
{
	static struct stream stream;

	(void)agent;
	if (strcmp(name, "stdin") == 0)
		return &stream;
	error_set(error, KIND_NOT_FOUND, "process \"%s\" of \"%s\" has no %s", process, container, name);
	return NULL;
}

int stream_mux_connect(struct stream *stream, uint32_t channel, int fd, const uint8_t *data, size_t len)
{
	(void)stream;
	(void)channel;
	(void)fd;
	(void)data;
	(void)len;
	return 0;
}

int stream_prepare(struct stream *stream, struct error *error)
{
	(void)stream;
	(void)error;
	return 0;
}

void stream_connect(struct stream *stream, int fd, const uint8_t *data, size_t len)
{
	(void)stream;
	(void)data;
	(void)len;
	close(fd);
}

void outward_run(struct buf *in)
{
	(void)in;
}

void touch_run(struct buf *in)
{
	(void)in;
}

int outward_start(struct agent *agent, int fd, const uint8_t *data, size_t len, outward_fn *work, struct error *error)
{
	(void)agent;
	(void)work;
	(void)fd;
	(void)data;
	return len == 1 ? error_set(error, KIND_BUSY, "no room") : 0;
}

static int op_echo(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	const char *text = "none";
	struct node list, entry;
	uint64_t number = 0;

	(void)agent;
	if (opt_str(args, "text", &text, error) < 0 || opt_u64(args, "number", &number, error) < 0 || opt_array(args, "list", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &entry, error) < 0 || get_str(&entry, "text", &text, error) < 0)
			return -1;
	}
	reply_ok(reply, json_pack("{s:o}", "text", json_text(text, strlen(text))));
	return 0;
}

/* An answer that comes later, perhaps after the connection's end */
static int op_hold(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	(void)agent;
	(void)args;
	for (size_t i = 0; i < PENDING_MAX; i++) {
		if (!held[i]) {
			held[i] = reply;
			return 0;
		}
	}
	return error_set(error, KIND_BUSY, "no room");
}

op_fn *agent_op(const char *name)
{
	if (strcmp(name, "echo") == 0)
		return op_echo;
	return strcmp(name, "hold") == 0 ? op_hold : NULL;
}

static void turn(struct agent *agent)
{
	for (int i = 0; i < 3; i++)
		(void)loop_once(&agent->loop, 0);
}

static void answer_held(void)
{
	for (size_t i = 0; i < PENDING_MAX; i++) {
		if (held[i])
			reply_ok(held[i], NULL);
		held[i] = NULL;
	}
}

/* Byte 0: the port, whether the connection is claimed already, and the size of the pieces. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agent agent = { .log_fd = -1 };
	char scratch[65536];
	int pair[2];
	size_t piece;

	if (size < 1)
		return 0;
	if (loop_init(&agent.loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	agent.claimed = data[0] & 2;
	memset(agent.secret, '0', sizeof(agent.secret));
	conn_accept(&agent, pair[0], data[0] & 1 ? PORT_STREAM : PORT_CONTROL, 0);
	piece = 1 + (data[0] >> 2) * 64u;
	for (size_t at = 1; at < size; at += piece) {
		size_t len = size - at < piece ? size - at : piece;

		if (send(pair[1], data + at, len, MSG_NOSIGNAL) < 0)
			break;
		turn(&agent);
		while (recv(pair[1], scratch, sizeof(scratch), 0) > 0)
			;
	}
	if (size & 1)
		answer_held();
	close(pair[1]);
	/* The end of a connection comes with the loop's next pass, that of its memory a moment later. */
	while (agent.conns || agent.loop.timers)
		(void)loop_once(&agent.loop, 5);
	answer_held();
	loop_fini(&agent.loop);
	return 0;
}
