/* SPDX-License-Identifier: Apache-2.0 */
#include "packets.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 16384, IN_MAX = PACKET_HEADER + PACKET_MAX };

static uint32_t wanted_events(const struct packets *packets)
{
	uint32_t events = 0;

	if (!packets->held && !packets->ended)
		events |= EPOLLIN;
	if (buf_len(&packets->out) > 0)
		events |= EPOLLOUT;
	return events;
}

static void packets_event(struct loop *loop, struct watch *watch, uint32_t events);

/* Where the watch cannot be changed it is made anew; where that fails too nobody would ever hear of the socket again. */
static void update(struct packets *packets)
{
	if (packets->watch.fn == NULL)
		(void)loop_add(packets->loop, &packets->watch, packets->fd, wanted_events(packets), packets_event);
	else
		(void)loop_change(packets->loop, &packets->watch, wanted_events(packets));
}

int packets_init(struct packets *packets, struct loop *loop, int fd, const struct packets_ops *ops, void *arg)
{
	int ret;

	*packets = (struct packets){ .loop = loop, .ops = ops, .arg = arg, .fd = fd };
	ret = loop_add(loop, &packets->watch, fd, EPOLLIN, packets_event);
	if (ret < 0)
		packets_fini(packets);
	return ret;
}

void packets_fini(struct packets *packets)
{
	loop_del(packets->loop, &packets->watch);
	if (packets->fd >= 0)
		close(packets->fd);
	packets->fd = -1;
	buf_free(&packets->in);
	buf_free(&packets->out);
}

bool packets_ready(const struct packets *packets)
{
	return buf_len(&packets->out) == 0;
}

/* 0 or -errno */
static int flush(struct packets *packets)
{
	while (buf_len(&packets->out) > 0) {
		ssize_t n = send(packets->fd, buf_head(&packets->out), buf_len(&packets->out), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		buf_consume(&packets->out, (size_t)n);
	}
	if (packets->finishing)
		shutdown(packets->fd, SHUT_WR);
	return 0;
}

int packets_send(struct packets *packets, const void *data, size_t len)
{
	uint8_t header[PACKET_HEADER] = { (uint8_t)(len >> 8), (uint8_t)len };
	int ret;

	if (len > PACKET_MAX)
		return -EMSGSIZE;
	if (!packets_ready(packets))
		return -EAGAIN;
	ret = buf_append(&packets->out, header, sizeof(header), IN_MAX);
	if (ret == 0)
		ret = buf_append(&packets->out, data, len, IN_MAX);
	if (ret < 0) {
		/* Half a packet would shift all that follow. */
		buf_free(&packets->out);
		return ret;
	}
	ret = flush(packets);
	update(packets);
	return ret;
}

void packets_finish(struct packets *packets)
{
	packets->finishing = true;
	(void)flush(packets);
}

/* False: the owner has ended it, and it may be gone. */
static bool deliver(struct packets *packets)
{
	while (!packets->held && buf_len(&packets->in) >= PACKET_HEADER) {
		const uint8_t *head = buf_head(&packets->in);
		size_t len = (size_t)head[0] << 8 | head[1];
		enum packet_verdict verdict;

		if (buf_len(&packets->in) < PACKET_HEADER + len)
			break;
		verdict = packets->ops->packet(packets->arg, head + PACKET_HEADER, len);
		if (verdict == PACKET_BROKEN) {
			packets->ops->ended(packets->arg, true);
			return false;
		}
		if (verdict == PACKET_LATER)
			packets->held = true;
		else
			buf_consume(&packets->in, PACKET_HEADER + len);
	}
	return true;
}

static void receive(struct packets *packets, bool hung)
{
	uint8_t chunk[CHUNK];
	size_t room = IN_MAX - buf_len(&packets->in);
	ssize_t n = recv(packets->fd, chunk, room < sizeof(chunk) ? room : sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && buf_append(&packets->in, chunk, (size_t)n, IN_MAX) == 0) {
		if (deliver(packets))
			update(packets);
		return;
	}
	packets->ended = true;
	update(packets);
	packets->ops->ended(packets->arg, hung || n != 0);
}

static void packets_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct packets *packets = container_of(watch, struct packets, watch);
	bool hung = events & (EPOLLHUP | EPOLLERR);

	if (events & EPOLLOUT && !hung) {
		if (flush(packets) < 0)
			hung = true;
		update(packets);
		/* Which may be the end of all this; what else there is to do the loop tells again. */
		if (!hung && packets_ready(packets)) {
			packets->ops->drained(packets->arg);
			return;
		}
	}
	if (packets->ended && hung)
		packets->ops->ended(packets->arg, true);
	else if (packets->held && hung)
		loop_del(loop, watch); /* the rest is read when there is room again */
	else if (!packets->held && !packets->ended && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(packets, hung);
}

void packets_resume(struct packets *packets)
{
	if (!packets->held)
		return;
	packets->held = false;
	if (deliver(packets))
		update(packets);
}

struct pump {
	struct packets link;
	struct watch watch;
	int fd;
	bool seqpacket;
	bool waits;    /* a packet is held until fd takes it */
	bool fd_ended; /* a connection's end of input */
};

static void pump_free(struct pump *pump)
{
	loop_del(pump->link.loop, &pump->watch);
	packets_fini(&pump->link);
	close(pump->fd);
	free(pump);
}

static void pump_event(struct loop *loop, struct watch *watch, uint32_t events);

static void pump_update(struct pump *pump)
{
	uint32_t events = 0;

	if (!pump->fd_ended && packets_ready(&pump->link))
		events |= EPOLLIN;
	if (pump->waits)
		events |= EPOLLOUT;
	if (pump->watch.fn != NULL)
		(void)loop_change(pump->link.loop, &pump->watch, events);
	else if (events != 0)
		(void)loop_add(pump->link.loop, &pump->watch, pump->fd, events, pump_event);
}

static enum packet_verdict pump_packet(void *arg, const uint8_t *data, size_t len)
{
	struct pump *pump = arg;

	if (send(pump->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return PACKET_TAKEN;
	if (errno == EAGAIN || errno == EINTR) {
		pump->waits = true;
		pump_update(pump);
		return PACKET_LATER;
	}
	/* A datagram may always get lost. */
	return pump->seqpacket && errno != EMSGSIZE ? PACKET_BROKEN : PACKET_TAKEN;
}

static void pump_drained(void *arg)
{
	struct pump *pump = arg;

	if (pump->fd_ended && (pump->link.ended || pump->watch.fn == NULL))
		pump_free(pump);
	else
		pump_update(pump);
}

static void pump_ended(void *arg, bool hung)
{
	struct pump *pump = arg;

	if (hung || !pump->seqpacket || (pump->fd_ended && packets_ready(&pump->link)))
		pump_free(pump);
	else
		shutdown(pump->fd, SHUT_WR);
}

/* The connection's other end has closed, in both directions where it hung up. */
static void pump_fd_ended(struct pump *pump, bool hung)
{
	pump->fd_ended = true;
	if (hung)
		loop_del(pump->link.loop, &pump->watch);
	packets_finish(&pump->link);
	if (packets_ready(&pump->link) && (hung || pump->link.ended))
		pump_free(pump);
	else
		pump_update(pump);
}

static void pump_receive(struct pump *pump, bool hung)
{
	uint8_t data[PACKET_MAX];
	ssize_t n = recv(pump->fd, data, sizeof(data), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* For a datagram an error says that an earlier one was not wanted. */
	if (n < 0 && !pump->seqpacket)
		return;
	if (n <= 0 && pump->seqpacket)
		pump_fd_ended(pump, hung || n < 0);
	else if (packets_send(&pump->link, data, (size_t)n) < 0 && n <= PACKET_MAX)
		pump_free(pump);
	else if (n > PACKET_MAX && pump->seqpacket)
		pump_free(pump);
	else
		pump_update(pump);
}

static void pump_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct pump *pump = container_of(watch, struct pump, watch);
	bool hung = events & EPOLLHUP;

	if (events & EPOLLOUT && pump->waits) {
		pump->waits = false;
		pump_update(pump);
		packets_resume(&pump->link);
		/* It may have been the end of the pump. */
		return;
	}
	if (!pump->fd_ended && packets_ready(&pump->link) && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		pump_receive(pump, hung);
	else if (hung && pump->fd_ended)
		pump_fd_ended(pump, true);
	else if (hung)
		loop_del(loop, watch); /* the rest is read when the link takes more */
}

static const struct packets_ops pump_ops = { .packet = pump_packet, .drained = pump_drained, .ended = pump_ended };

int pump_start(struct loop *loop, int stream, int fd, bool seqpacket)
{
	struct pump *pump = calloc(1, sizeof(*pump));
	int ret = pump == NULL ? -ENOMEM : 0;

	if (ret == 0)
		ret = packets_init(&pump->link, loop, stream, &pump_ops, pump);
	else
		close(stream);
	if (ret == 0) {
		pump->seqpacket = seqpacket;
		pump->fd = fd;
		ret = loop_add(loop, &pump->watch, fd, EPOLLIN, pump_event);
		if (ret == 0)
			return 0;
		packets_fini(&pump->link);
	}
	free(pump);
	close(fd);
	return ret;
}
