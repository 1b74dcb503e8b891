/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runv-bridge: the host's end of the serial carrier, one per sandbox. Offers the guest's ports on a unix socket (docs/agent-protocol.md, "Carriers") and
 * lives as long as the link, whose other end is QEMU's character device.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"
#include "mux.h"
#include "resident.h"

enum {
	FD_LINK = RESIDENT_FD,
	FD_LISTEN,
	LINE_MAX_BYTES = 32,
	LINE_DEADLINE_MS = 10000,
	ACCEPT_PAUSE_MS = 100,
	CLIENTS_MAX = MUX_CHANNELS_MAX,
	FILES_WANTED = CLIENTS_MAX + 64,
};

/* A connection until its channel is open; then it is the mux's. */
struct client {
	struct bridge *bridge;
	struct watch watch;
	struct timer deadline;
	LIST_ENTRY(client) entry;
	int fd;
	bool asked; /* counted among the channels */
	size_t len;
	char line[LINE_MAX_BYTES];
};

struct bridge {
	struct loop loop;
	struct mux *mux;
	struct watch listener, signals;
	struct timer pause;
	LIST_HEAD(, client) clients;
	unsigned reading; /* clients that have not asked yet */
	bool terminated;
};

static void client_free(struct client *client, bool close_fd)
{
	struct bridge *bridge = client->bridge;

	loop_disarm(&bridge->loop, &client->deadline);
	loop_del(&bridge->loop, &client->watch);
	LIST_REMOVE(client, entry);
	if (!client->asked)
		bridge->reading--;
	if (close_fd)
		close(client->fd);
	free(client);
}

/* "CONNECT <port>", the newline cut off. */
static bool parse_connect(const char *line, uint32_t *port)
{
	static const char verb[] = "CONNECT ";
	const char *digits = line + sizeof(verb) - 1;
	unsigned long long value;
	size_t len;

	if (strncmp(line, verb, sizeof(verb) - 1) != 0)
		return false;
	len = strlen(digits);
	if (len == 0 || len > 10 || strspn(digits, "0123456789") != len)
		return false;
	value = strtoull(digits, NULL, 10);
	*port = (uint32_t)value;
	return value <= UINT32_MAX;
}

/*
 * Reads up to the newline and not a byte more: what follows is for the guest. 1: the line is whole; 0: more is needed; -1: it never will be.
 */
static int read_line(struct client *client)
{
	size_t room = sizeof(client->line) - client->len;
	char *at = client->line + client->len, *newline;
	ssize_t n = recv(client->fd, at, room, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	newline = memchr(at, '\n', (size_t)n);
	if (newline != NULL)
		n = newline + 1 - at;
	if (recv(client->fd, at, (size_t)n, MSG_DONTWAIT) != n)
		return -1;
	client->len += (size_t)n;
	if (newline == NULL)
		return client->len < sizeof(client->line) ? 0 : -1;
	*newline = '\0';
	/* A NUL inside would hide what comes after it. */
	return strlen(client->line) == client->len - 1 ? 1 : -1;
}

static void client_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct client *client = container_of(watch, struct client, watch);
	uint32_t port;
	int ret;

	if (client->asked) {
		/* Only its end is watched for now, and it is over if that was it. */
		mux_cancel(client->bridge->mux, client->fd);
		client_free(client, true);
		return;
	}
	ret = events & EPOLLIN ? read_line(client) : -1;
	if (ret == 0)
		return;
	if (ret < 0 || !parse_connect(client->line, &port) || mux_connect(client->bridge->mux, client->fd, port) < 0) {
		client_free(client, true);
		return;
	}
	client->asked = true;
	client->bridge->reading--;
	loop_disarm(loop, &client->deadline);
	loop_change(loop, watch, 0);
}

static void client_late(struct loop *loop, struct timer *timer)
{
	(void)loop;
	client_free(container_of(timer, struct client, deadline), true);
}

static void client_new(struct bridge *bridge, int fd)
{
	struct client *client = NULL;

	if (bridge->reading + mux_channels(bridge->mux) < CLIENTS_MAX)
		client = calloc(1, sizeof(*client));
	if (client == NULL) {
		close(fd);
		return;
	}
	client->bridge = bridge;
	client->fd = fd;
	bridge->reading++;
	LIST_INSERT_HEAD(&bridge->clients, client, entry);
	loop_arm(&bridge->loop, &client->deadline, LINE_DEADLINE_MS, client_late);
	if (loop_add(&bridge->loop, &client->watch, fd, EPOLLIN, client_event) < 0)
		client_free(client, true);
}

static void accept_again(struct loop *loop, struct timer *timer)
{
	struct bridge *bridge = container_of(timer, struct bridge, pause);

	loop_change(loop, &bridge->listener, EPOLLIN);
}

static void listener_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct bridge *bridge = container_of(watch, struct bridge, listener);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		client_new(bridge, fd);
		return;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return;
	/* Out of descriptors or memory, and the socket stays readable: look again later instead of spinning. */
	loop_change(loop, watch, 0);
	loop_arm(loop, &bridge->pause, ACCEPT_PAUSE_MS, accept_again);
}

static void on_connected(void *arg, int fd, uint32_t channel, bool ok)
{
	struct bridge *bridge = arg;
	struct client *client;
	char line[LINE_MAX_BYTES];
	int len;

	LIST_FOREACH(client, &bridge->clients, entry)
		if (client->fd == fd)
			break;
	if (client == NULL)
		return;
	client_free(client, !ok);
	if (!ok)
		return;
	/* The first bytes on this side, so they fit. If nobody is there to read them the mux finds out by itself. */
	len = snprintf(line, sizeof(line), "OK %" PRIu32 "\n", channel);
	if (send(fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
		shutdown(fd, SHUT_RDWR);
}

static void on_down(void *arg, int error)
{
	struct bridge *bridge = arg;

	(void)error;
	bridge->loop.stop = true;
}

static const struct mux_ops bridge_ops = { .connected = on_connected, .down = on_down };

static void signal_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct bridge *bridge = container_of(watch, struct bridge, signals);

	(void)events;
	bridge->terminated = true;
	loop->stop = true;
}

static void drop_clients(struct bridge *bridge)
{
	struct client *client;

	while ((client = LIST_FIRST(&bridge->clients)) != NULL)
		client_free(client, true);
}

static int bridge_run(struct bridge *bridge)
{
	int term = resident_signals();
	int ret = term < 0 ? term : loop_init(&bridge->loop);

	if (ret < 0)
		return ret;
	LIST_INIT(&bridge->clients);
	bridge->mux = mux_new(&bridge->loop, &bridge_ops, bridge);
	if (bridge->mux == NULL)
		return -ENOMEM;
	ret = loop_add(&bridge->loop, &bridge->signals, term, EPOLLIN, signal_event);
	if (ret == 0)
		ret = loop_add(&bridge->loop, &bridge->listener, FD_LISTEN, EPOLLIN, listener_event);
	if (ret == 0)
		ret = mux_attach(bridge->mux, FD_LINK);
	if (ret == 0)
		ret = loop_run(&bridge->loop);
	/* No new clients; those that are slow still get what the guest had said. */
	drop_clients(bridge);
	loop_disarm(&bridge->loop, &bridge->pause);
	loop_del(&bridge->loop, &bridge->listener);
	close(FD_LISTEN);
	while (ret == 0 && !bridge->terminated && mux_channels(bridge->mux) > 0)
		ret = loop_once(&bridge->loop, -1);
	return ret;
}

static void bridge_fini(struct bridge *bridge)
{
	drop_clients(bridge);
	mux_free(bridge->mux);
	loop_fini(&bridge->loop);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "link-fd", required_argument, NULL, 'l' },
		{ "listen-fd", required_argument, NULL, 's' },
		{ "label", required_argument, NULL, 'n' }, /* for those who read ps */
		{ 0 },
	};
	struct bridge bridge = { .loop.epfd = -1 };
	int link_fd = -1, listen_fd = -1, option, ret;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'l')
			link_fd = resident_fd_argument(optarg);
		else if (option == 's')
			listen_fd = resident_fd_argument(optarg);
		else if (option != 'n')
			return 2;
	}
	if (link_fd < 0 || listen_fd < 0 || link_fd == listen_fd || optind != argc) {
		fputs("usage: runv-bridge --link-fd N --listen-fd N [--label TEXT]\n", stderr);
		return 2;
	}
	prctl(PR_SET_NAME, "runv-bridge");
	resident_file_limit(FILES_WANTED);
	ret = resident_detach((const int[]){ link_fd, listen_fd }, 2);
	if (ret == 0)
		ret = bridge_run(&bridge);
	bridge_fini(&bridge);
	return ret == 0 ? 0 : 1;
}
