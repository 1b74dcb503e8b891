/* SPDX-License-Identifier: Apache-2.0 */
#include "standin_control.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	WAIT_ID = 1,
	PENDING_MAX = 32,    /* below the agent's limit, so that no signal is refused as one too many */
	QUEUE_MAX = 64 << 10, /* replies are small; so are PENDING_MAX requests */
	READ_SIZE = 4096,
};

/* Nothing will be heard of the process any more. */
static void control_lost(struct control *control)
{
	if (control->status.kind == STATUS_NONE)
		control->status.kind = STATUS_LOST;
}

/* Takes args. 0 or -errno. */
static int control_ask(struct control *control, const char *op, json_t *args)
{
	json_t *request = json_pack("{s:i, s:s, s:o}", "id", control->next_id, "op", op, "args", args);
	char *text = request == NULL ? NULL : json_dumps(request, JSON_COMPACT);
	int ret = -ENOMEM;

	if (text != NULL)
		ret = wire_append(&control->out, text, strlen(text), QUEUE_MAX);
	if (ret == 0) {
		control->next_id++;
		control->pending++;
	}
	free(text);
	json_decref(request);
	return ret;
}

/* Writes what goes without waiting. 0 or -errno. */
static int control_write(struct control *control)
{
	ssize_t n;

	if (buf_len(&control->out) == 0)
		return 0;
	n = send(control->fd, buf_head(&control->out), buf_len(&control->out), MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	buf_consume(&control->out, (size_t)n);
	return 0;
}

static void control_flush(struct control *control, struct loop *loop)
{
	/* A broken connection is found out by reading: the status may be among what has arrived. */
	if (control_write(control) < 0)
		buf_free(&control->out);
	loop_change(loop, &control->watch, buf_len(&control->out) > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static struct status parse_status(json_t *reply)
{
	json_t *result = json_object_get(reply, "result");
	json_t *code = json_object_get(result, "exit"), *number = json_object_get(result, "signal");

	if (json_is_integer(code))
		return (struct status){ STATUS_EXIT, (int)(json_integer_value(code) & 0xff) };
	if (json_is_integer(number) && json_integer_value(number) > 0 && json_integer_value(number) <= 64)
		return (struct status){ STATUS_SIGNAL, (int)json_integer_value(number) };
	return (struct status){ STATUS_LOST, 0 };
}

static void control_ask_oom(struct control *control)
{
	control->oom_id = control->next_id;
	control_ask(control, "oom", json_pack("{s:s, s:I}", "container", control->container, "seen", control->kills));
}

/* The answer is level-triggered: what happens between it and the next question is in the next answer. */
static void control_oom_reply(struct control *control, json_t *reply)
{
	json_t *result = json_object_get(reply, "result");
	json_t *kills = json_object_get(result, "kills");

	control->oom_id = 0;
	if (!json_is_integer(kills))
		return;
	control->oom = control->oom || json_integer_value(kills) > control->kills;
	control->kills = json_integer_value(kills);
	if (!json_is_true(json_object_get(result, "ended")))
		control_ask_oom(control);
}

/* A signal for a process that has just ended is refused, and nothing is to be done about it: only the status matters. */
static void control_reply(struct control *control, const char *text, size_t len)
{
	json_t *reply = json_loadb(text, len, 0, NULL);
	json_t *id = json_object_get(reply, "id");

	if (!json_is_integer(id)) {
		control_lost(control);
	} else {
		if (control->pending > 0)
			control->pending--;
		if (json_integer_value(id) == WAIT_ID && control->status.kind == STATUS_NONE)
			control->status = parse_status(reply);
		else if (control->oom_id > 0 && json_integer_value(id) == control->oom_id)
			control_oom_reply(control, reply);
	}
	json_decref(reply);
}

static int control_read(struct control *control)
{
	uint8_t data[READ_SIZE];
	const char *text;
	size_t len;
	ssize_t n = recv(control->fd, data, sizeof(data), MSG_DONTWAIT);
	int ret;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return n < 0 ? -errno : -EPIPE;
	ret = buf_append(&control->in, data, (size_t)n, QUEUE_MAX);
	while (ret == 0 && (ret = wire_peek(&control->in, &text, &len)) > 0) {
		control_reply(control, text, len);
		buf_consume(&control->in, WIRE_HEADER + len);
		ret = 0;
	}
	return ret;
}

static void control_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct control *control = container_of(watch, struct control, watch);

	if ((events & ~(uint32_t)EPOLLOUT) && control_read(control) < 0) {
		control_lost(control);
		loop_del(loop, watch);
		return;
	}
	control_flush(control, loop);
}

int control_start(struct control *control, struct loop *loop, int fd, const char *container, const char *process)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	int ret;

	*control = (struct control){ .container = container, .process = process, .fd = fd, .next_id = WAIT_ID };
	ret = control_ask(control, "wait", json_pack("{s:s, s:s, s:b}", "container", container, "process", process, "owner", 1));
	while (ret == 0 && buf_len(&control->out) > 0) {
		poll(&pfd, 1, -1);
		ret = control_write(control);
	}
	return ret < 0 ? ret : loop_add(loop, &control->watch, fd, EPOLLIN, control_event);
}

void control_fini(struct control *control)
{
	buf_free(&control->in);
	buf_free(&control->out);
}

bool control_may_ask(const struct control *control)
{
	return control->pending < PENDING_MAX;
}

void control_signal(struct control *control, struct loop *loop, int number)
{
	if (control->watch.fn == NULL)
		return;
	control_ask(control, "signal",
		    json_pack("{s:s, s:s, s:i}", "container", control->container, "process", control->process, "signal", number));
	control_flush(control, loop);
}

void control_watch_oom(struct control *control, struct loop *loop)
{
	control_ask_oom(control);
	control_flush(control, loop);
}

void control_resize(struct control *control, struct loop *loop, unsigned rows, unsigned columns)
{
	if (control->watch.fn == NULL)
		return;
	control_ask(control, "resize",
		    json_pack("{s:s, s:s, s:i, s:i}", "container", control->container, "process", control->process, "rows", (int)rows,
			      "columns", (int)columns));
	control_flush(control, loop);
}
