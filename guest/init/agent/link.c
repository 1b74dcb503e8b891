/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "jsonget.h"
#include "loop.h"

static bool wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd wanted = { .fd = fd, .events = events };
	int64_t left = deadline_ms - now_ms();

	return left > 0 && poll(&wanted, 1, (int)left) > 0;
}

json_t *link_request(struct buf *in)
{
	int64_t deadline = now_ms() + LINK_FRAME_MS;
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
		if (n <= 0 || buf_append(in, chunk, (size_t)n, WIRE_HEADER + LINK_FRAME_MAX) < 0)
			return NULL;
	}
	/* The host says no more before it was answered. */
	if (found < 0 || buf_len(in) != WIRE_HEADER + len)
		return NULL;
	return json_parse((char *)(uintptr_t)payload, len);
}

int link_answer(json_t *message)
{
	cleanup_json json_t *owned = message;
	cleanup_free char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;
	int64_t deadline = now_ms() + LINK_FRAME_MS;
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

json_t *link_error(const struct error *error)
{
	json_t *json = json_pack("{s:{s:s, s:s}}", "error", "kind", error_kind_name(error->kind), "message", error->text);

	if (json && error->errnum)
		json_object_set_new(json_object_get(json, "error"), "errno", json_integer(error->errnum));
	return json;
}

int link_block(void)
{
	int flags = fcntl(LINK, F_GETFL);

	return flags < 0 || fcntl(LINK, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}
