/* SPDX-License-Identifier: Apache-2.0 */
/* A relay's listeners: what comes in becomes channels of its multiplexer. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "outward.h"
#include "packets.h"

#define FOLDER "/run/runv/relay"

enum { BACKLOG = 4096, BATCH = 32, PAUSE_MS = 100 };

static const struct {
	const char *name;
	int family, type;
} types[] = {
	[LISTEN_STREAM] = { "stream", AF_UNIX, SOCK_STREAM },
	[LISTEN_SEQPACKET] = { "seqpacket", AF_UNIX, SOCK_SEQPACKET },
	[LISTEN_DGRAM] = { "dgram", AF_UNIX, SOCK_DGRAM },
	[LISTEN_TCP] = { "tcp", AF_INET, SOCK_STREAM },
	[LISTEN_UDP] = { "udp", AF_INET, SOCK_DGRAM },
};

/* Datagrams of one sender, on a channel of their own that brings the answers; or all those that came to a unix socket, which cannot be answered. */
struct flow {
	struct listener *listener;
	struct packets link;
	struct timer idle;
	TAILQ_ENTRY(flow) entry;
	struct sockaddr_in client;
};

static void listener_resume(struct loop *loop, struct timer *timer)
{
	struct listener *listener = container_of(timer, struct listener, pause);

	(void)loop_change(loop, &listener->watch, EPOLLIN);
}

/* Out of something: the listener stays readable, and is not looked at for a while. */
static void listener_pause(struct listener *listener)
{
	struct loop *loop = &listener->outward->loop;

	(void)loop_change(loop, &listener->watch, 0);
	loop_arm(loop, &listener->pause, PAUSE_MS, listener_resume);
}

static void flow_free(struct flow *flow)
{
	struct listener *listener = flow->listener;

	loop_disarm(&listener->outward->loop, &flow->idle);
	packets_fini(&flow->link);
	TAILQ_REMOVE(&listener->flows, flow, entry);
	listener->flow_count--;
	free(flow);
}

static void flow_idle(struct loop *loop, struct timer *timer)
{
	(void)loop;
	flow_free(container_of(timer, struct flow, idle));
}

static void flow_touch(struct flow *flow)
{
	struct listener *listener = flow->listener;

	if (listener->type != LISTEN_UDP)
		return;
	TAILQ_REMOVE(&listener->flows, flow, entry);
	TAILQ_INSERT_TAIL(&listener->flows, flow, entry);
	loop_arm(&listener->outward->loop, &flow->idle, FLOW_IDLE_MS, flow_idle);
}

static enum packet_verdict flow_packet(void *arg, const uint8_t *data, size_t len)
{
	struct flow *flow = arg;

	if (flow->listener->type == LISTEN_UDP)
		(void)sendto(flow->listener->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&flow->client, sizeof(flow->client));
	flow_touch(flow);
	return PACKET_TAKEN;
}

static void flow_drained(void *arg)
{
	struct flow *flow = arg;

	(void)loop_change(&flow->listener->outward->loop, &flow->listener->watch, EPOLLIN);
}

static void flow_ended(void *arg, bool hung)
{
	struct flow *flow = arg;
	struct listener *listener = flow->listener;

	(void)hung;
	flow_free(flow);
	/* It may have been what the listener waited for. */
	(void)loop_change(&listener->outward->loop, &listener->watch, EPOLLIN);
}

static const struct packets_ops flow_ops = { .packet = flow_packet, .drained = flow_drained, .ended = flow_ended };

/* Both ends of a stream that carries packets: one is ours, the other is a channel's. 0 or -errno */
static int new_channel(struct listener *listener, int *ours)
{
	int pair[2], result;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	result = mux_connect(listener->outward->mux, pair[1], listener->port);
	if (result < 0) {
		close(pair[0]);
		close(pair[1]);
		return result;
	}
	*ours = pair[0];
	return 0;
}

static struct flow *flow_new(struct listener *listener, const struct sockaddr_in *client)
{
	struct flow *flow;
	int fd;

	if (listener->flow_count >= FLOWS_MAX)
		flow_free(TAILQ_FIRST(&listener->flows));
	flow = calloc(1, sizeof(*flow));
	if (!flow || new_channel(listener, &fd) < 0) {
		free(flow);
		return NULL;
	}
	/* What fails from here on closes our end, and so the channel. */
	if (packets_init(&flow->link, &listener->outward->loop, fd, &flow_ops, flow) < 0) {
		free(flow);
		return NULL;
	}
	flow->listener = listener;
	flow->client = *client;
	TAILQ_INSERT_TAIL(&listener->flows, flow, entry);
	listener->flow_count++;
	return flow;
}

static struct flow *flow_of(struct listener *listener, const struct sockaddr_in *client)
{
	struct flow *flow;

	TAILQ_FOREACH(flow, &listener->flows, entry)
		if (flow->client.sin_port == client->sin_port && flow->client.sin_addr.s_addr == client->sin_addr.s_addr)
			return flow;
	return flow_new(listener, client);
}

/* False: there is none now. */
static bool receive_one(struct listener *listener)
{
	uint8_t data[PACKET_MAX];
	struct sockaddr_in client = { 0 };
	socklen_t client_len = sizeof(client);
	bool udp = listener->type == LISTEN_UDP;
	ssize_t n = recvfrom(listener->fd, data, sizeof(data), MSG_DONTWAIT | MSG_TRUNC, udp ? (struct sockaddr *)&client : NULL, udp ? &client_len : NULL);
	struct flow *flow;

	if (n < 0)
		return false;
	flow = n <= PACKET_MAX ? flow_of(listener, &client) : NULL;
	if (!flow)
		return true;
	flow_touch(flow);
	/* On UDP what there is no room for gets lost. */
	(void)packets_send(&flow->link, data, (size_t)n);
	if (udp || packets_ready(&flow->link))
		return true;
	(void)loop_change(&listener->outward->loop, &listener->watch, 0);
	return false;
}

static int pass_on(struct listener *listener, int fd)
{
	struct outward *outward = listener->outward;
	int one = 1, stream, result;

	if (listener->type == LISTEN_TCP)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (listener->type != LISTEN_SEQPACKET)
		return mux_connect(outward->mux, fd, listener->port);
	result = new_channel(listener, &stream);
	if (result < 0)
		return result;
	(void)pump_start(&outward->loop, stream, fd, true);
	return 0;
}

static bool accept_one(struct listener *listener)
{
	int fd = -1;

	if (mux_channels(listener->outward->mux) < MUX_CHANNELS_MAX)
		fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	else
		errno = ENOBUFS;
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			listener_pause(listener);
		return false;
	}
	if (pass_on(listener, fd) < 0)
		close(fd);
	return true;
}

static void listener_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct listener *listener = container_of(watch, struct listener, watch);
	bool datagrams = types[listener->type].type == SOCK_DGRAM, more = true;

	(void)loop;
	(void)events;
	for (int i = 0; i < BATCH && more; i++)
		more = datagrams ? receive_one(listener) : accept_one(listener);
}

int listener_watch(struct listener *listener)
{
	return loop_add(&listener->outward->loop, &listener->watch, listener->fd, EPOLLIN, listener_event);
}

static int make_folder(struct outward *outward, struct error *error)
{
	static const char template[] = FOLDER "/XXXXXX";

	if (*outward->folder)
		return 0;
	if ((mkdir("/run/runv", 0755) < 0 && errno != EEXIST) || (mkdir(FOLDER, 0711) < 0 && errno != EEXIST))
		return error_sys(error, errno, "cannot create %s", FOLDER);
	memcpy(outward->folder, template, sizeof(template));
	/* Root of a container with a user namespace is to find the way to its own. */
	if (!mkdtemp(outward->folder) || chmod(outward->folder, 0711) < 0) {
		outward->folder[0] = '\0';
		return error_sys(error, errno, "cannot create a folder in %s", FOLDER);
	}
	return 0;
}

static int bind_unix(struct listener *listener, const struct node *entry, struct error *error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int64_t mode = 0600, uid = 0, gid = 0;

	if (opt_int(entry, "mode", 0, 07777, &mode, error) < 0 || opt_int(entry, "uid", 0, UINT32_MAX - 1, &uid, error) < 0 ||
	    opt_int(entry, "gid", 0, UINT32_MAX - 1, &gid, error) < 0 || make_folder(listener->outward, error) < 0)
		return -1;
	snprintf(listener->path, sizeof(listener->path), "%s/%u", listener->outward->folder, listener->port);
	memcpy(address.sun_path, listener->path, sizeof(listener->path));
	if (bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chown(listener->path, (uid_t)uid, (gid_t)gid) < 0 ||
	    chmod(listener->path, (mode_t)mode) < 0)
		return error_sys(error, errno, "cannot make socket %s", listener->path);
	return 0;
}

static int bind_inet(struct listener *listener, const struct node *entry, struct error *error)
{
	struct sockaddr_in wanted = { .sin_family = AF_INET }, address;
	socklen_t len = sizeof(address);
	const char *text;
	int64_t port;

	if (get_str(entry, "address", &text, error) < 0 || get_int(entry, "port", 1, UINT16_MAX, &port, error) < 0)
		return -1;
	if (inet_pton(AF_INET, text, &wanted.sin_addr) != 1)
		return node_fail(entry, "address", error, "is not an address of IPv4");
	address = wanted;
	if (bind(listener->fd, (struct sockaddr *)&address, sizeof(address)) < 0 || getsockname(listener->fd, (struct sockaddr *)&address, &len) < 0)
		return error_sys(error, errno, "cannot listen on %s", text);
	wanted.sin_port = htons((uint16_t)port);
	return redirect_start(&listener->redirect, types[listener->type].type, &wanted, ntohs(address.sin_port), error);
}

/* A listener_type, or -1 */
static int find_type(const struct node *entry, struct error *error)
{
	const char *name;

	if (get_str(entry, "type", &name, error) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i].name, name) == 0)
			return (int)i;
	return node_fail(entry, "type", error, "must be stream, seqpacket, dgram, tcp or udp");
}

int listener_open(struct outward *outward, const struct node *entry, struct error *error)
{
	struct listener *listener = &outward->listeners[outward->count];
	int type = find_type(entry, error);

	if (type < 0)
		return -1;
	*listener = (struct listener){ .outward = outward, .type = (enum listener_type)type, .port = (uint32_t)outward->count, .redirect = REDIRECT_NONE };
	TAILQ_INIT(&listener->flows);
	listener->fd = socket(types[type].family, types[type].type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return error_sys(error, errno, "cannot make a socket");
	outward->count++;
	if ((types[type].family == AF_UNIX ? bind_unix(listener, entry, error) : bind_inet(listener, entry, error)) < 0)
		return -1;
	if (types[type].type != SOCK_DGRAM && listen(listener->fd, BACKLOG) < 0)
		return error_sys(error, errno, "cannot listen");
	return 0;
}

/* At the end of the process, with which all else goes. */
void listeners_close(struct outward *outward)
{
	for (size_t i = 0; i < outward->count; i++) {
		redirect_stop(&outward->listeners[i].redirect);
		close(outward->listeners[i].fd);
		if (*outward->listeners[i].path)
			unlink(outward->listeners[i].path);
	}
	if (*outward->folder)
		rmdir(outward->folder);
}
