/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_mux.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "container.h"
#include "process.h"

/*
 * Where the processor is emulated, a switch to another process costs as much as the copying of many pages: a process that has much to say or to hear
 * gets a pipe that holds more of it. Only then, since what a pipe holds is memory.
 */
enum { PIPE_USUAL = 65536, PIPE_WIDE = 524288 };

static struct agent *agent_of(const struct stream *stream)
{
	return stream->process->container->agent;
}

static struct stream *stream_of(struct mux_end *end)
{
	return container_of(end, struct stream, end);
}

bool stream_mux_connected(const struct stream *stream)
{
	return stream->end.channel != NULL || stream->lost;
}

static void finish(struct stream *stream)
{
	stream_close(stream);
	process_stream_done(stream->process);
}

static void keep(struct stream *stream, const uint8_t *rest, size_t len)
{
	struct queue *in = &stream->in;
	size_t size = len + FIRST_FRAME_MAX > STREAM_BUFFER ? len + FIRST_FRAME_MAX : STREAM_BUFFER;

	if (!stream->to_local || stream->local_fd < 0 || len == 0 || in->data)
		return;
	in->data = malloc(size);
	if (!in->data)
		return;
	memcpy(in->data, rest, len);
	*in = (struct queue){ .data = in->data, .end = len, .size = size };
}

static void widen(struct stream *stream)
{
	if (!stream->widened)
		(void)fcntl(stream->local_fd, F_SETPIPE_SZ, PIPE_WIDE);
	stream->widened = true;
}

static ssize_t all_of(const struct iovec *parts, int count)
{
	size_t len = 0;

	for (int i = 0; i < count; i++)
		len += parts[i].iov_len;
	return (ssize_t)len;
}

static ssize_t end_write(struct mux_end *end, const struct iovec *parts, int count)
{
	struct stream *stream = stream_of(end);
	ssize_t n, all = all_of(parts, count);

	if (!stream->to_local)
		return all; /* an output is told nothing */
	if (all >= PIPE_USUAL)
		widen(stream);
	n = writev(stream->local_fd, parts, count);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -errno;
	return n;
}

static ssize_t read_output(struct stream *stream, uint8_t *data, size_t len)
{
	ssize_t n;

	if (stream->ended && len > stream->left)
		len = stream->left;
	n = len > 0 ? read(stream->local_fd, data, len) : 0;
	if (n > 0 && stream->ended)
		stream->left -= (size_t)n;
	else if (n >= PIPE_USUAL)
		widen(stream);
	if (n >= 0)
		return n;
	/* Who has ended has left less than it was said; any other error is the end as well. */
	return !stream->ended && (errno == EAGAIN || errno == EINTR) ? -EAGAIN : 0;
}

static ssize_t end_read(struct mux_end *end, uint8_t *data, size_t len)
{
	struct stream *stream = stream_of(end);

	if (agent_of(stream)->park.parked)
		return -EAGAIN;
	if (stream->to_remote)
		return read_output(stream, data, len);
	return stream->local_fd < 0 ? 0 : -EAGAIN;
}

static void end_shut(struct mux_end *end)
{
	if (stream_of(end)->to_local)
		stream_close_local(stream_of(end));
}

static void end_gone(struct mux_end *end, const uint8_t *rest, size_t len)
{
	struct stream *stream = stream_of(end);

	/* Whoever takes the machine over finds it as it was. */
	if (agent_of(stream)->park.parked) {
		keep(stream, rest, len);
		stream->lost = true;
		return;
	}
	finish(stream);
}

static void local_ready(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct stream *stream = container_of(watch, struct stream, local);

	(void)loop;
	(void)events;
	if (stream->to_local)
		mux_end_writable(&stream->end);
	else
		mux_end_readable(&stream->end);
}

/*
 * Whether a channel can be the stream's. Not another one that has got its number, when it has gone itself, and with it the other end of fd. And not where
 * more lies before what the channel will bring than a queue has room for beside that; a socket in between does not mind.
 */
static bool suits(const struct stream *stream, int fd, size_t len)
{
	struct pollfd pfd = { .fd = fd };
	size_t kept = stream->in.end - stream->in.start;
	int unread = 0;

	if (poll(&pfd, 1, 0) < 0 || pfd.revents & (POLLHUP | POLLERR) || ioctl(fd, FIONREAD, &unread) < 0 || unread < 0)
		return false;
	return kept + len + (size_t)unread <= MUX_WINDOW;
}

/* What lies before the channel's own: what was kept, what came with the first frame, and what came after it. */
static int gather(struct stream *stream, int fd, const uint8_t *data, size_t len, struct buf *heard)
{
	struct queue *in = &stream->in;
	uint8_t chunk[4096];
	ssize_t n = 0;
	int result = buf_append(heard, in->data ? in->data + in->start : NULL, in->end - in->start, MUX_WINDOW);

	if (result == 0)
		result = buf_append(heard, data, len, MUX_WINDOW);
	while (result == 0 && (n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT)) > 0)
		result = buf_append(heard, chunk, (size_t)n, MUX_WINDOW);
	return result;
}

int stream_mux_connect(struct stream *stream, uint32_t channel, int fd, const uint8_t *data, size_t len)
{
	static const struct mux_end_ops ops = { .write = end_write, .read = end_read, .shut = end_shut, .gone = end_gone };
	struct agent *agent = agent_of(stream);
	static const char answer[] = STREAM_ANSWER;
	struct buf heard = { 0 }, said = { 0 };
	int result;

	if (stream->tty || stream->local_fd < 0 || !agent->mux || !mux_end_possible(agent->mux, channel) || !suits(stream, fd, len))
		return 0;
	result = gather(stream, fd, data, len, &heard);
	if (result == 0)
		result = buf_append(&said, answer, sizeof(answer) - 1, sizeof(answer));
	loop_del(&agent->loop, &stream->local);
	if (result == 0)
		result = loop_add(&agent->loop, &stream->local, stream->local_fd, (stream->to_local ? EPOLLOUT : EPOLLIN) | EPOLLET, local_ready);
	if (result == 0)
		result = mux_end_attach(agent->mux, channel, &stream->end, &ops, &heard, &said);
	buf_free(&heard);
	buf_free(&said);
	if (result < 0) {
		loop_del(&agent->loop, &stream->local);
		return result;
	}
	stream_free_queues(stream);
	stream->connected = true;
	mux_end_readable(&stream->end);
	if (stream->process->state == PROCESS_EXITED)
		stream_end(stream);
	else
		mux_end_writable(&stream->end);
	return 1;
}

void stream_mux_end(struct stream *stream)
{
	int available = 0;

	if (ioctl(stream->local_fd, FIONREAD, &available) < 0)
		available = 0;
	stream->ended = true;
	stream->left = (size_t)available;
	mux_end_readable(&stream->end);
}

void stream_mux_watch(struct stream *stream)
{
	if (agent_of(stream)->park.parked)
		return;
	/* What that means to the process is seen to when all streams were gone through: it could be gone. */
	if (stream->lost)
		stream_close(stream);
	else
		mux_end_readable(&stream->end);
}

void stream_mux_detach(struct stream *stream)
{
	const uint8_t *rest;
	size_t len;

	loop_del(&agent_of(stream)->loop, &stream->local);
	rest = mux_end_rest(&stream->end, &len);
	keep(stream, rest, len);
	mux_end_close(&stream->end);
	stream->lost = false;
}
