/* SPDX-License-Identifier: Apache-2.0 */
#include "conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "cleanup.h"
#include "container.h"
#include "outward.h"
#include "stream.h"
#include "stream_mux.h"
#include "touch.h"

enum {
	OUT_MAX = 4 * WIRE_FRAME_MAX,
	OUT_PAUSE = 1 << 20, /* a host that does not read its replies is not listened to */
	READ_CHUNK = 65536,
};

struct conn {
	struct agent *agent;
	struct conn *next;
	struct watch watch;
	struct timer timer; /* the first frame's deadline; later, the end of a closed connection's memory */
	struct buf in, out;
	struct reply *pending;
	unsigned int pending_count;
	unsigned int port;
	uint32_t channel; /* of the serial carrier */
	bool open;
	bool authenticated;
	bool closing; /* ends when out is empty */
};

void conn_close_fd(int fd)
{
	char scratch[4096];

	/*
	 * Unread input in a unix socket turns the close into a reset, which may overtake what was sent. After the shutdown no more can come in.
	 */
	shutdown(fd, SHUT_RDWR);
	for (int i = 0; i < 1024 && recv(fd, scratch, sizeof(scratch), MSG_DONTWAIT) > 0; i++)
		;
	close(fd);
}

static void conn_free(struct loop *loop, struct timer *timer)
{
	struct conn *conn = container_of(timer, struct conn, timer);

	(void)loop;
	/* Only now, from the loop itself: what this kills and frees may be what the closer of the connection was looking at. */
	containers_conn_gone(conn->agent, conn);
	buf_free(&conn->in);
	buf_free(&conn->out);
	free(conn);
}

/* Takes the connection out of everything. Its memory stays until the loop comes round, because callers further up still look at it. */
static void conn_detach(struct conn *conn)
{
	struct agent *agent = conn->agent;

	conn->open = false;
	loop_del(&agent->loop, &conn->watch);
	for (struct conn **link = &agent->conns; *link; link = &(*link)->next) {
		if (*link == conn) {
			*link = conn->next;
			break;
		}
	}
	agent->conn_count--;
	for (struct reply *reply = conn->pending; reply; reply = reply->next)
		reply->conn = NULL;
	conn->pending = NULL;
	loop_arm(&agent->loop, &conn->timer, 0, conn_free);
}

static void conn_close(struct conn *conn)
{
	int fd = conn->watch.fd;

	if (!conn->open)
		return;
	conn_detach(conn);
	conn_close_fd(fd);
}

void conns_close_others(struct agent *agent, const struct conn *conn)
{
	struct conn *next;

	for (struct conn *other = agent->conns; other; other = next) {
		next = other->next;
		if (other != conn)
			conn_close(other);
	}
}

static uint32_t conn_events(const struct conn *conn)
{
	uint32_t events = 0;

	if (!conn->closing && buf_len(&conn->out) < OUT_PAUSE)
		events |= EPOLLIN;
	if (buf_len(&conn->out) > 0)
		events |= EPOLLOUT;
	return events;
}

static void conn_update(struct conn *conn)
{
	if (!conn->open)
		return;
	if (conn->closing && buf_len(&conn->out) == 0) {
		conn_close(conn);
		return;
	}
	if (conn_events(conn) != conn->watch.events && loop_change(&conn->agent->loop, &conn->watch, conn_events(conn)) < 0)
		conn_close(conn);
}

static void conn_flush(struct conn *conn)
{
	while (buf_len(&conn->out) > 0) {
		ssize_t n = send(conn->watch.fd, buf_head(&conn->out), buf_len(&conn->out), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			conn_close(conn);
			return;
		}
		buf_consume(&conn->out, (size_t)n);
	}
	conn_update(conn);
}

/* Consumes the message. A connection that cannot be answered is of no use and is closed. */
static void conn_send(struct conn *conn, json_t *message)
{
	cleanup_json json_t *owned = message;
	cleanup_free char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;

	if (!conn->open)
		return;
	if (!text || wire_append(&conn->out, text, strlen(text), OUT_MAX) < 0) {
		agent_log(conn->agent, "cannot queue a reply: connection closed");
		conn_close(conn);
		return;
	}
	conn_flush(conn);
}

static json_t *error_json(const struct error *error)
{
	/* What a hook has said may be anything. */
	json_t *json = json_pack("{s:s, s:o}", "kind", error_kind_name(error->kind), "message", json_text(error->text, strlen(error->text)));

	if (json && error->errnum)
		json_object_set_new(json, "errno", json_integer(error->errnum));
	return json;
}

static void reply_send(struct reply *reply, const char *member, json_t *value)
{
	struct conn *conn = reply->conn;
	json_t *message = NULL;

	if (conn) {
		for (struct reply **link = &conn->pending; *link; link = &(*link)->next) {
			if (*link == reply) {
				*link = reply->next;
				conn->pending_count--;
				break;
			}
		}
		if (value)
			message = json_pack("{s:I, s:O}", "id", reply->id, member, value);
		conn_send(conn, message);
	}
	json_decref(value);
	free(reply);
}

void reply_ok(struct reply *reply, json_t *result)
{
	reply_send(reply, "result", result ? result : json_object());
}

void reply_error(struct reply *reply, const struct error *error)
{
	reply_send(reply, "error", error_json(error));
}

/* Takes as long for a secret that is wrong at its first digit as at its last. */
static bool secret_equal(const char *a, const char *b)
{
	unsigned char difference = 0;

	for (size_t i = 0; i < SECRET_LEN; i++)
		difference |= (unsigned char)(a[i] ^ b[i]);
	return difference == 0;
}

bool secret_valid(const char *secret)
{
	return strlen(secret) == SECRET_LEN && strspn(secret, "0123456789abcdef") == SECRET_LEN;
}

static int check_secret(struct agent *agent, const struct node *first, bool may_claim, bool *claims, struct error *error)
{
	const char *secret = NULL;

	*claims = false;
	if (get_str(first, "secret", &secret, error) < 0)
		return -1;
	if (!secret_valid(secret))
		return node_fail(first, "secret", error, "must be 64 hexadecimal digits");
	if (!agent->claimed && may_claim) {
		*claims = true;
		memcpy(agent->secret, secret, SECRET_LEN);
		return 0;
	}
	if (!agent->claimed || !secret_equal(secret, agent->secret))
		return error_set(error, KIND_DENIED, "the secret is wrong");
	return 0;
}

static int answer_hello(struct conn *conn, const struct node *hello, struct error *error)
{
	struct agent *agent = conn->agent;
	struct utsname uts = { 0 };
	int64_t version = 0;
	bool claims;

	if (get_int(hello, "version", 0, INT32_MAX, &version, error) < 0)
		return -1;
	if (version != PROTOCOL_VERSION)
		return error_set(error, KIND_UNSUPPORTED, "protocol version %d is not supported, this is version %d", (int)version, PROTOCOL_VERSION);
	if (check_secret(agent, hello, true, &claims, error) < 0)
		return -1;
	uname(&uts);
	conn_send(conn, json_pack("{s:{s:i, s:[s], s:s, s:b}}", "hello", "version", PROTOCOL_VERSION, "features",
				  agent->transport == TRANSPORT_VSOCK ? "vsock" : "serial", "kernel", uts.release, "claimed", claims));
	if (claims)
		agent->claimed = true;
	return 0;
}

/* From here on the descriptor belongs to the stream; the connection's memory goes. */
static int answer_stream(struct conn *conn, const struct node *args, size_t frame_len, struct error *error)
{
	static const char answer[] = STREAM_ANSWER;
	const char *container, *process, *name;
	const uint8_t *data = buf_head(&conn->in) + frame_len;
	size_t len = buf_len(&conn->in) - frame_len;
	struct stream *stream;
	int fd = conn->watch.fd, joined;
	bool claims;

	if (check_secret(conn->agent, args, false, &claims, error) < 0 || get_str(args, "container", &container, error) < 0 ||
	    get_str(args, "process", &process, error) < 0 || get_str(args, "name", &name, error) < 0)
		return -1;
	stream = stream_find(conn->agent, container, process, name, error);
	if (!stream)
		return -1;
	joined = stream_mux_connect(stream, conn->channel, fd, data, len);
	if (joined < 0)
		return error_sys(error, -joined, "cannot connect %s", name);
	if (joined > 0) {
		conn_detach(conn);
		close(fd);
		return 0;
	}
	if (stream_prepare(stream, error) < 0)
		return -1;
	/* A socket that is this fresh has room for one answer; if not, something is wrong with it. */
	if (send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof(answer) - 1) {
		conn_close(conn);
		return 0;
	}
	conn_detach(conn);
	stream_connect(stream, fd, data, len);
	return 0;
}

/* From here on the descriptor belongs to a process of its own. */
static int answer_outward(struct conn *conn, const struct node *args, outward_fn *work, size_t frame_len, struct error *error)
{
	bool claims;
	int fd = conn->watch.fd;

	if (check_secret(conn->agent, args, false, &claims, error) < 0 ||
	    outward_start(conn->agent, fd, buf_head(&conn->in) + frame_len, buf_len(&conn->in) - frame_len, work, error) < 0)
		return -1;
	conn_detach(conn);
	close(fd);
	return 0;
}

/* What a connection of the second port is for */
static int answer_bytes(struct conn *conn, const struct node *root, size_t frame_len, struct error *error)
{
	struct node args;

	if (has_member(root, "relay"))
		return get_object(root, "relay", &args, error) < 0 ? -1 : answer_outward(conn, &args, outward_run, frame_len, error);
	if (has_member(root, "touch"))
		return get_object(root, "touch", &args, error) < 0 ? -1 : answer_outward(conn, &args, touch_run, frame_len, error);
	return get_object(root, "stream", &args, error) < 0 ? -1 : answer_stream(conn, &args, frame_len, error);
}

static void first_frame(struct conn *conn, const json_t *frame, size_t frame_len)
{
	struct node root = { .json = frame }, args;
	struct error error;
	int result;

	if (conn->port == PORT_CONTROL)
		result = get_object(&root, "hello", &args, &error) < 0 ? -1 : answer_hello(conn, &args, &error);
	else
		result = answer_bytes(conn, &root, frame_len, &error);
	if (!conn->open)
		return;
	loop_disarm(&conn->agent->loop, &conn->timer);
	if (result < 0) {
		conn->closing = true;
		conn_send(conn, json_pack("{s:o}", "error", error_json(&error)));
		return;
	}
	conn->authenticated = true;
}

static void request(struct conn *conn, const json_t *frame)
{
	struct node root = { .json = frame }, args;
	struct reply *reply = calloc(1, sizeof(*reply));
	struct error error;
	const char *name;
	int64_t id;
	op_fn *op;

	/* Without an id there is nothing to answer to. */
	if (!reply || get_int(&root, "id", 0, 1LL << 53, &id, &error) < 0) {
		free(reply);
		conn_close(conn);
		return;
	}
	*reply = (struct reply){ .conn = conn, .next = conn->pending, .id = id };
	conn->pending = reply;
	conn->pending_count++;
	if (conn->pending_count > PENDING_MAX) {
		error_set(&error, KIND_BUSY, "more than %d requests of this connection are unanswered", PENDING_MAX);
	} else if (get_str(&root, "op", &name, &error) < 0 || opt_object(&root, "args", &args, &error) < 0) {
		/* the error is set */
	} else {
		op = agent_op(name);
		if (!op)
			error_set(&error, KIND_UNSUPPORTED, "there is no operation \"%.64s\"", name);
		else if (op(conn->agent, &args, reply, &error) == 0)
			return;
	}
	reply_error(reply, &error);
}

/* Handles one frame at the head of the queue; false: there is none. */
static bool conn_frame(struct conn *conn)
{
	const char *payload = NULL;
	size_t len = 0, limit = conn->authenticated ? WIRE_FRAME_MAX : FIRST_FRAME_MAX;
	int found = wire_peek(&conn->in, &payload, &len);
	json_t *frame;

	if (found == 0 && (conn->authenticated || buf_len(&conn->in) < WIRE_HEADER + FIRST_FRAME_MAX))
		return false;
	/* The text is in our own buffer, which the parser may change. */
	frame = found == 1 && len <= limit ? json_parse((char *)(uintptr_t)payload, len) : NULL;
	if (!frame) {
		conn_close(conn);
		return false;
	}
	if (conn->authenticated)
		request(conn, frame);
	else
		first_frame(conn, frame, WIRE_HEADER + len);
	json_decref(frame);
	if (conn->open)
		buf_consume(&conn->in, WIRE_HEADER + len);
	return conn->open && !conn->closing;
}

static void conn_read(struct conn *conn)
{
	uint8_t chunk[READ_CHUNK];
	ssize_t n = recv(conn->watch.fd, chunk, conn->authenticated ? sizeof(chunk) : FIRST_FRAME_MAX, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || buf_append(&conn->in, chunk, (size_t)n, WIRE_HEADER + WIRE_FRAME_MAX + READ_CHUNK) < 0) {
		conn_close(conn);
		return;
	}
	while (conn_frame(conn))
		;
	conn_update(conn);
}

static void conn_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct conn *conn = container_of(watch, struct conn, watch);

	(void)loop;
	if (events & EPOLLOUT)
		conn_flush(conn);
	if (conn->open && (events & EPOLLIN) && (conn->watch.events & EPOLLIN))
		conn_read(conn);
	else if (conn->open && (events & (EPOLLHUP | EPOLLERR)))
		conn_close(conn);
}

static void conn_late(struct loop *loop, struct timer *timer)
{
	(void)loop;
	conn_close(container_of(timer, struct conn, timer));
}

void conn_accept(struct agent *agent, int fd, unsigned int port, uint32_t channel)
{
	struct conn *conn = agent->conn_count < CONNECTIONS_MAX ? calloc(1, sizeof(*conn)) : NULL;

	if (!conn) {
		close(fd);
		return;
	}
	conn->agent = agent;
	conn->port = port;
	conn->channel = channel;
	conn->watch.fd = -1;
	if (loop_add(&agent->loop, &conn->watch, fd, EPOLLIN, conn_event) < 0) {
		close(fd);
		free(conn);
		return;
	}
	conn->open = true;
	conn->next = agent->conns;
	agent->conns = conn;
	agent->conn_count++;
	loop_arm(&agent->loop, &conn->timer, FIRST_FRAME_MS, conn_late);
}
