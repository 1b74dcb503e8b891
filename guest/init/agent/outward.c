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
#include "link.h"

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

	request = result == 0 && link_answer(json_pack("{s:{}}", "relay")) == 0 ? link_request(in) : NULL;
	if (!request)
		return -1;
	if (listen_all(outward, request, &error) < 0 || begin(outward, &error) < 0) {
		(void)link_answer(link_error(&error));
		return -1;
	}
	if (link_answer(paths_json(outward)) < 0 || mux_attach(outward->mux, LINK) < 0)
		return -1;
	return loop_run(&outward->loop);
}

void outward_run(struct buf *in)
{
	struct outward *outward = calloc(1, sizeof(*outward));

	prctl(PR_SET_NAME, "relay");
	if (!outward)
		return;
	(void)serve(outward, in);
	listeners_close(outward);
}

/* None of PID 1's descriptors, signals or secrets is its business. */
static _Noreturn void run(int fd, const uint8_t *data, size_t len, outward_fn *work)
{
	struct buf in = { 0 };
	sigset_t none;

	prctl(PR_SET_DUMPABLE, 0);
	if (buf_append(&in, data, len, WIRE_HEADER + LINK_FRAME_MAX) < 0 || (dup3(fd, LINK, O_CLOEXEC) < 0 && fd != LINK))
		_exit(1);
	close_range(LINK + 1, ~0U, 0);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	work(&in);
	_exit(0);
}

static unsigned int count(const struct agent *agent)
{
	unsigned int n = 0;

	for (const struct relay *relay = agent->relays; relay; relay = relay->next)
		n++;
	return n;
}

int outward_start(struct agent *agent, int fd, const uint8_t *data, size_t len, outward_fn *work, struct error *error)
{
	struct relay *relay;

	if (count(agent) >= RELAYS_MAX)
		return error_set(error, KIND_BUSY, "there are %d relays already", RELAYS_MAX);
	relay = calloc(1, sizeof(*relay));
	if (relay)
		relay->pid = fork();
	if (relay && relay->pid == 0)
		run(fd, data, len, work);
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
