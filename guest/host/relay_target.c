/* SPDX-License-Identifier: Apache-2.0 */
#include "relay_target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "packets.h"

enum { RETRY_MS = 10, PORT_CHARS_MAX = 5 };

static const struct {
	const char *name;
	int family, type;
} kinds[] = {
	[TARGET_STREAM] = { "stream", AF_UNIX, SOCK_STREAM },
	[TARGET_SEQPACKET] = { "seqpacket", AF_UNIX, SOCK_SEQPACKET },
	[TARGET_DGRAM] = { "dgram", AF_UNIX, SOCK_DGRAM },
	[TARGET_TCP] = { "tcp", AF_INET, SOCK_STREAM },
	[TARGET_UDP] = { "udp", AF_INET, SOCK_DGRAM },
};

static int parse_address(const char *text, struct sockaddr_in *address)
{
	const char *colon = strchr(text, ':');
	char host[INET_ADDRSTRLEN];
	long port;

	if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	port = strspn(colon + 1, "0123456789") == strlen(colon + 1) && strlen(colon + 1) <= PORT_CHARS_MAX ? strtol(colon + 1, NULL, 10) : 0;
	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	return port > 0 && port <= UINT16_MAX && inet_pton(AF_INET, host, &address->sin_addr) == 1 ? 0 : -EINVAL;
}

int target_parse(const char *text, struct target *target)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = strlen(kinds[i].name);

		if (strncmp(text, kinds[i].name, len) != 0 || text[len] != ':')
			continue;
		*target = (struct target){ .kind = (enum target_kind)i, .path = text + len + 1 };
		if (kinds[i].family == AF_INET)
			return parse_address(target->path, &target->address);
		return target->path[0] == '/' && strlen(target->path) < PATH_MAX ? 0 : -EINVAL;
	}
	return -EINVAL;
}

/*
 * The file as it is called now: a service that was started anew has made a new one. Nothing is followed: in a folder that is shared with it a guest
 * could put a link to any other socket of the host.
 */
static int open_path(const struct target *target, struct sockaddr_un *address)
{
	struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, target->path, &how, sizeof(how));

	if (fd < 0)
		return -errno;
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d", fd);
	return fd;
}

static int new_socket(const struct target *target)
{
	int fd = socket(kinds[target->kind].family, kinds[target->kind].type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static int connect_unix(const struct target *target, int fd)
{
	struct sockaddr_un address;
	int path = open_path(target, &address), ret;

	if (path < 0)
		return path;
	ret = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	close(path);
	return ret;
}

static int connect_inet(const struct target *target, int fd)
{
	int one = 1;

	if (target->kind == TARGET_TCP)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return connect(fd, (const struct sockaddr *)&target->address, sizeof(target->address)) < 0 && errno != EINPROGRESS ? -errno : 0;
}

/* Datagrams to a unix socket: there is no connection that could break, each goes to whoever has the path then. */
struct sink {
	struct packets link;
	struct timer retry;
	const struct target *target;
	int fd;
};

static void sink_again(struct loop *loop, struct timer *timer)
{
	struct sink *sink = container_of(timer, struct sink, retry);

	(void)loop;
	packets_resume(&sink->link);
}

static enum packet_verdict sink_packet(void *arg, const uint8_t *data, size_t len)
{
	struct sink *sink = arg;
	struct sockaddr_un address;
	int path = open_path(sink->target, &address);
	bool later;

	if (path < 0)
		return PACKET_TAKEN;
	later = sendto(sink->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof(address)) < 0 && errno == EAGAIN;
	close(path);
	if (later)
		loop_arm(sink->link.loop, &sink->retry, RETRY_MS, sink_again);
	return later ? PACKET_LATER : PACKET_TAKEN;
}

static void sink_drained(void *arg)
{
	(void)arg;
}

static void sink_ended(void *arg, bool hung)
{
	struct sink *sink = arg;

	(void)hung;
	loop_disarm(sink->link.loop, &sink->retry);
	packets_fini(&sink->link);
	close(sink->fd);
	free(sink);
}

static const struct packets_ops sink_ops = { .packet = sink_packet, .drained = sink_drained, .ended = sink_ended };

static int sink_start(struct loop *loop, const struct target *target, int stream, int fd)
{
	struct sink *sink = calloc(1, sizeof(*sink));
	int ret = -ENOMEM;

	if (sink != NULL) {
		sink->target = target;
		sink->fd = fd;
		ret = packets_init(&sink->link, loop, stream, &sink_ops, sink);
	} else {
		close(stream);
	}
	if (ret < 0) {
		close(fd);
		free(sink);
	}
	return ret;
}

/* The other end of a stream that carries fd's packets. Takes fd over. */
static int framed(struct loop *loop, const struct target *target, int fd)
{
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	if (target->kind == TARGET_DGRAM)
		ret = sink_start(loop, target, pair[0], fd);
	else
		ret = pump_start(loop, pair[0], fd, target->kind == TARGET_SEQPACKET);
	if (ret == 0)
		return pair[1];
	close(pair[1]);
	return ret;
}

int target_connect(struct loop *loop, const struct target *target)
{
	int fd = new_socket(target), ret = 0;

	if (fd < 0)
		return fd;
	if (kinds[target->kind].family == AF_INET)
		ret = connect_inet(target, fd);
	else if (target->kind != TARGET_DGRAM)
		ret = connect_unix(target, fd);
	if (ret < 0) {
		close(fd);
		return ret;
	}
	return target->kind == TARGET_STREAM || target->kind == TARGET_TCP ? fd : framed(loop, target, fd);
}
