/* SPDX-License-Identifier: Apache-2.0 */
#include "outward.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "wire.h"

enum { LINK = 3 };

struct relay {
	struct relay *next;
	pid_t pid;
};

/* A refused connection is the client's to see: it is closed. */
static void on_connected(void *arg, int fd, uint32_t channel, bool ok)
{
	(void)arg;
	(void)channel;
	if (!ok)
		close(fd);
}

static void on_down(void *arg, int error)
{
	struct outward *outward = arg;

	(void)error;
	outward->loop.stop = true;
}

static const struct mux_ops mux_ops = { .connected = on_connected, .down = on_down };

static bool wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd wanted = { .fd = fd, .events = events };
	int64_t left = deadline_ms - now_ms();

	return left > 0 && poll(&wanted, 1, (int)left) > 0;
}

/* The frame that says what to listen on, or NULL: then there is nobody to answer. */
static json_t *read_request(struct buf *in)
{
	int64_t deadline = now_ms() + LISTENERS_FRAME_MS;
	const char *payload = NULL;
	size_t len = 0;
	int found;

	while ((found = wire_peek(in, &payload, &len)) == 0) {
		uint8_t chunk[4096];
		ssize_t n;

		if (!wait_for(LINK, POLLIN, deadline))
			return NULL;
		n = recv(LINK, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0 || buf_append(in, chunk, (size_t)n, WIRE_HEADER + LISTENERS_FRAME_MAX) < 0)
			return NULL;
	}
	/* The host says no more before it was answered. */
	if (found < 0 || buf_len(in) != WIRE_HEADER + len)
		return NULL;
	return json_parse((char *)(uintptr_t)payload, len);
}

static int listen_all(struct outward *outward, const json_t *request, struct error *error)
{
	struct node root = { .json = request }, list, entry;

	if (opt_array(&root, "listeners", &list, error) < 0)
		return -1;
	if (array_len(&list) == 0 || array_len(&list) > LISTENERS_MAX)
		return node_fail(&root, "listeners", error, "must have 1 to 256 entries");
	for (size_t i = 0; i < array_len(&list); i++)
		if (array_object(&list, i, &entry, error) < 0 || listener_open(outward, &entry, error) < 0)
			return -1;
	return 0;
}

/* Consumes the message. 0 or -1 */
static int answer(json_t *message)
{
	cleanup_json json_t *owned = message;
	cleanup_free char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;
	int64_t deadline = now_ms() + LISTENERS_FRAME_MS;
	struct buf out = { 0 };
	int result = text ? wire_append(&out, text, strlen(text), WIRE_FRAME_MAX) : -ENOMEM;

	while (result == 0 && buf_len(&out) > 0) {
		ssize_t n = send(LINK, buf_head(&out), buf_len(&out), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0)
			buf_consume(&out, (size_t)n);
		else if ((errno != EAGAIN && errno != EINTR) || !wait_for(LINK, POLLOUT, deadline))
			result = -1;
	}
	buf_free(&out);
	return result < 0 ? -1 : 0;
}

static json_t *paths_json(const struct outward *outward)
{
	json_t *paths = json_array();

	for (size_t i = 0; i < outward->count; i++)
		json_array_append_new(paths, json_string(outward->listeners[i].path));
	return json_pack("{s:{s:o}}", "listening", "paths", paths);
}

static int begin(struct outward *outward, struct error *error)
{
	outward->mux = mux_new(&outward->loop, &mux_ops, outward);
	if (!outward->mux)
		return error_sys(error, ENOMEM, "cannot make the multiplexer");
	for (size_t i = 0; i < outward->count; i++) {
		int result = listener_watch(&outward->listeners[i]);

		if (result < 0)
			return error_sys(error, -result, "cannot watch a listener");
	}
	return 0;
}

static int serve(struct outward *outward, struct buf *in)
{
	cleanup_json json_t *request = NULL;
	struct error error;
	int result = loop_init(&outward->loop);

	request = result == 0 && answer(json_pack("{s:{}}", "relay")) == 0 ? read_request(in) : NULL;
	if (!request)
		return -1;
	if (listen_all(outward, request, &error) < 0 || begin(outward, &error) < 0) {
		json_t *json = json_pack("{s:{s:s, s:s}}", "error", "kind", error_kind_name(error.kind), "message", error.text);

		if (json && error.errnum)
			json_object_set_new(json_object_get(json, "error"), "errno", json_integer(error.errnum));
		(void)answer(json);
		return -1;
	}
	if (answer(paths_json(outward)) < 0 || mux_attach(outward->mux, LINK) < 0)
		return -1;
	return loop_run(&outward->loop);
}

/* None of PID 1's descriptors, signals or secrets is a relay's business. */
static _Noreturn void run(int fd, const uint8_t *data, size_t len)
{
	struct outward *outward = calloc(1, sizeof(*outward));
	struct buf in = { 0 };
	sigset_t none;

	prctl(PR_SET_NAME, "relay");
	prctl(PR_SET_DUMPABLE, 0);
	if (!outward || buf_append(&in, data, len, WIRE_HEADER + LISTENERS_FRAME_MAX) < 0 || (dup3(fd, LINK, O_CLOEXEC) < 0 && fd != LINK))
		_exit(1);
	close_range(LINK + 1, ~0U, 0);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	(void)serve(outward, &in);
	listeners_close(outward);
	_exit(0);
}

static unsigned int count(const struct agent *agent)
{
	unsigned int n = 0;

	for (const struct relay *relay = agent->relays; relay; relay = relay->next)
		n++;
	return n;
}

int outward_start(struct agent *agent, int fd, const uint8_t *data, size_t len, struct error *error)
{
	struct relay *relay;

	if (count(agent) >= RELAYS_MAX)
		return error_set(error, KIND_BUSY, "there are %d relays already", RELAYS_MAX);
	relay = calloc(1, sizeof(*relay));
	if (relay)
		relay->pid = fork();
	if (relay && relay->pid == 0)
		run(fd, data, len);
	if (!relay || relay->pid < 0) {
		free(relay);
		return error_sys(error, errno, "cannot start a relay");
	}
	relay->next = agent->relays;
	agent->relays = relay;
	return 0;
}

bool outward_reaped(struct agent *agent, pid_t pid)
{
	for (struct relay **link = &agent->relays; *link; link = &(*link)->next) {
		struct relay *relay = *link;

		if (relay->pid != pid)
			continue;
		*link = relay->next;
		free(relay);
		return true;
	}
	return false;
}
