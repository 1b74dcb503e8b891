/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"
#include "container.h"
#include "process.h"
#include "stream_mux.h"

/* A terminal cannot say how much is in it, so what it holds is read until it is empty; a child that goes on writing must not make that endless. */
enum { TTY_DRAIN_MAX = 256 << 10 };

static size_t queue_len(const struct queue *queue)
{
	return queue->end - queue->start;
}

static size_t queue_room(struct queue *queue)
{
	if (queue->start == queue->end) {
		queue->start = queue->end = 0;
	} else if (queue->end == queue->size && queue->start > 0) {
		memmove(queue->data, queue->data + queue->start, queue_len(queue));
		queue->end -= queue->start;
		queue->start = 0;
	}
	return queue->size - queue->end;
}

void stream_init(struct stream *stream, struct process *process, const char *name, int local_fd)
{
	bool tty = strcmp(name, "tty") == 0;

	*stream = (struct stream){
		.process = process,
		.name = name,
		.tty = tty,
		.to_local = tty || strcmp(name, "stdin") == 0,
		.to_remote = tty || strcmp(name, "stdin") != 0,
		.local_fd = local_fd,
		.remote_fd = -1,
		.local = { .fd = -1 },
		.remote = { .fd = -1 },
	};
	fcntl(local_fd, F_SETFL, O_NONBLOCK);
}

static struct agent *agent_of(const struct stream *stream)
{
	return stream->process->container->agent;
}

void stream_free_queues(struct stream *stream)
{
	free(stream->in.data);
	free(stream->out.data);
	stream->in = stream->out = (struct queue){ 0 };
}

void stream_close_local(struct stream *stream)
{
	loop_del(&agent_of(stream)->loop, &stream->local);
	if (stream->local_fd >= 0)
		close(stream->local_fd);
	stream->local_fd = -1;
}

void stream_close(struct stream *stream)
{
	/* A stream of a process that never got so far */
	if (!stream->process)
		return;
	stream_close_local(stream);
	loop_del(&agent_of(stream)->loop, &stream->remote);
	if (stream->remote_fd >= 0)
		conn_close_fd(stream->remote_fd);
	stream->remote_fd = -1;
	mux_end_close(&stream->end);
	stream->lost = false;
	stream_free_queues(stream);
}

bool stream_busy(const struct stream *stream)
{
	return stream->to_remote && (stream->remote_fd >= 0 || stream_mux_connected(stream));
}

/* What a watch without wanted events would still report, a hang-up, it reports for ever: then it has to leave the loop. */
static int watch_set(struct loop *loop, struct watch *watch, int fd, uint32_t events, bool keep, watch_fn *fn)
{
	if (fd < 0 || (events == 0 && !keep)) {
		loop_del(loop, watch);
		return 0;
	}
	if (watch->fd < 0)
		return loop_add(loop, watch, fd, events, fn);
	return events == watch->events ? 0 : loop_change(loop, watch, events);
}

static void local_event(struct loop *loop, struct watch *watch, uint32_t events);
static void remote_event(struct loop *loop, struct watch *watch, uint32_t events);

static int update_watches(struct stream *stream)
{
	struct loop *loop = &agent_of(stream)->loop;
	uint32_t local = 0, remote = 0;
	bool parked = agent_of(stream)->park.parked, keep = stream->to_remote && !parked;

	if (stream->to_local) {
		local |= queue_len(&stream->in) > 0 ? EPOLLOUT : 0;
		remote |= !parked && !stream->remote_eof && queue_room(&stream->in) > 0 ? EPOLLIN : 0;
	}
	if (stream->to_remote) {
		local |= !parked && stream->remote_fd >= 0 && !stream->local_eof && queue_room(&stream->out) > 0 ? EPOLLIN : 0;
		remote |= queue_len(&stream->out) > 0 ? EPOLLOUT : 0;
	}
	if (watch_set(loop, &stream->local, stream->local_fd, local, false, local_event) < 0)
		return -1;
	return watch_set(loop, &stream->remote, stream->remote_fd, remote, keep, remote_event);
}

static bool would_block(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static void read_local(struct stream *stream)
{
	size_t room = queue_room(&stream->out);
	ssize_t n;

	if (stream->local_eof || stream->local_fd < 0 || room == 0)
		return;
	if (stream->ended && room > stream->left)
		room = stream->left;
	n = room > 0 ? read(stream->local_fd, stream->out.data + stream->out.end, room) : 0;
	if (n > 0) {
		stream->out.end += (size_t)n;
		stream->left -= stream->ended ? (size_t)n : 0;
		stream->local_eof = stream->ended && stream->left == 0;
	} else if (n == 0 || !would_block() || (stream->ended && errno == EAGAIN)) {
		/* A terminal that nobody holds open any more reads as EIO. */
		stream->local_eof = true;
	}
}

/* -1: the process does not take it */
static int write_local(struct stream *stream)
{
	while (stream->local_fd >= 0 && queue_len(&stream->in) > 0) {
		ssize_t n = write(stream->local_fd, stream->in.data + stream->in.start, queue_len(&stream->in));

		if (n < 0)
			return would_block() ? 0 : -1;
		stream->in.start += (size_t)n;
	}
	return 0;
}

/* -1: the connection is broken */
static int read_remote(struct stream *stream)
{
	size_t room = queue_room(&stream->in);
	ssize_t n;

	if (stream->remote_eof || room == 0)
		return 0;
	n = recv(stream->remote_fd, stream->in.data + stream->in.end, room, MSG_DONTWAIT);
	if (n > 0)
		stream->in.end += (size_t)n;
	else if (n == 0)
		stream->remote_eof = true;
	else if (!would_block())
		return -1;
	return 0;
}

static int write_remote(struct stream *stream)
{
	while (queue_len(&stream->out) > 0) {
		ssize_t n = send(stream->remote_fd, stream->out.data + stream->out.start, queue_len(&stream->out), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return would_block() ? 0 : -1;
		stream->out.start += (size_t)n;
	}
	return 0;
}

/* Whether the stream's work is done and both its ends can go. */
static bool complete(struct stream *stream)
{
	bool in_done = stream->remote_eof && queue_len(&stream->in) == 0;
	bool out_done = stream->local_eof && queue_len(&stream->out) == 0;

	if (stream->remote_fd < 0)
		return false;
	if (!stream->to_remote)
		return in_done;
	if (!stream->tty || stream->ended)
		return out_done;
	/* A program may close its terminal and live on: the host is told that no more comes, but hanging up would kill the program. */
	if (out_done && !stream->remote_shut) {
		shutdown(stream->remote_fd, SHUT_WR);
		stream->remote_shut = true;
	}
	return false;
}

/* Ends the stream when it is over, else waits for what it needs next. The process may be gone afterwards. */
static void settle(struct stream *stream, bool broken)
{
	if (!broken && !complete(stream) && update_watches(stream) == 0)
		return;
	stream_close(stream);
	process_stream_done(stream->process);
}

static void local_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct stream *stream = container_of(watch, struct stream, local);
	bool broken = false;

	(void)loop;
	if (stream->to_remote && stream->remote_fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		read_local(stream);
		broken = write_remote(stream) < 0;
	}
	if (!broken && stream->to_local && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) && write_local(stream) < 0) {
		/* Nobody will ever read a pipe without a reader; a terminal's next user may. */
		stream->in.start = stream->in.end = 0;
		broken = !stream->tty;
	}
	settle(stream, broken);
}

static void remote_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct stream *stream = container_of(watch, struct stream, remote);
	bool broken = false;

	(void)loop;
	if (stream->to_remote && (events & EPOLLOUT))
		broken = write_remote(stream) < 0;
	if (!broken && stream->to_local && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		broken = read_remote(stream) < 0;
		if (!broken && write_local(stream) < 0)
			broken = !stream->tty;
	}
	/* The host has closed its end for good, which is how it says that nobody wants the output. */
	if (stream->to_remote && (events & (EPOLLHUP | EPOLLERR)))
		broken = true;
	settle(stream, broken);
}

void stream_watch(struct stream *stream)
{
	if (!stream->process)
		return;
	if (stream_mux_connected(stream))
		stream_mux_watch(stream);
	else if (stream->remote_fd >= 0 && update_watches(stream) < 0)
		stream_close(stream);
}

bool stream_quiet(const struct stream *stream)
{
	int unsent = 0;

	if (!stream_busy(stream) || stream_mux_connected(stream))
		return true;
	/* In a socket to the multiplexer; vsock keeps the order by itself, and does not know the question. */
	if (ioctl(stream->remote_fd, SIOCOUTQ, &unsent) < 0)
		unsent = 0;
	return queue_len(&stream->out) == 0 && unsent == 0;
}

void stream_detach(struct stream *stream)
{
	if (!stream->process)
		return;
	loop_del(&agent_of(stream)->loop, &stream->remote);
	if (stream->remote_fd >= 0)
		conn_close_fd(stream->remote_fd);
	stream->remote_fd = -1;
	if (stream_mux_connected(stream))
		stream_mux_detach(stream);
	stream->connected = stream->remote_eof = stream->remote_shut = stream->ended = false;
	stream->left = 0;
	/* What has arrived of the input is the process's; there must be room for what comes with the next host's first frame. */
	if (stream->local_fd < 0 || queue_len(&stream->in) + FIRST_FRAME_MAX > stream->in.size)
		stream->in.start = stream->in.end = 0;
	if (queue_len(&stream->in) == 0)
		stream_free_queues(stream);
	else if (update_watches(stream) < 0)
		stream_close_local(stream);
}

struct stream *stream_find(struct agent *agent, const char *container, const char *process, const char *name, struct error *error)
{
	struct process *found = process_find(agent, container, process, error);

	if (!found)
		return NULL;
	for (size_t i = 0; i < PROCESS_STREAMS; i++) {
		struct stream *stream = &found->streams[i];

		if (!stream->process || strcmp(stream->name, name) != 0)
			continue;
		if (stream->connected) {
			error_set(error, KIND_EXISTS, "%s of process \"%s\" is already connected", name, process);
			return NULL;
		}
		return stream;
	}
	error_set(error, KIND_NOT_FOUND, "process \"%s\" has no stream \"%.32s\"", process, name);
	return NULL;
}

static bool queue_make(struct queue *queue)
{
	if (!queue->data)
		*queue = (struct queue){ .data = malloc(STREAM_BUFFER), .size = STREAM_BUFFER };
	return queue->data != NULL;
}

int stream_prepare(struct stream *stream, struct error *error)
{
	if (queue_make(&stream->in) && queue_make(&stream->out))
		return 0;
	stream_free_queues(stream);
	return error_sys(error, ENOMEM, "cannot connect %s", stream->name);
}

void stream_connect(struct stream *stream, int fd, const uint8_t *data, size_t len)
{
	bool ended = stream->process->state == PROCESS_EXITED;

	stream->connected = true;
	stream->remote_fd = fd;
	if (stream->to_local) {
		size_t room = queue_room(&stream->in);

		len = len < room ? len : room;
		memcpy(stream->in.data + stream->in.end, data, len);
		stream->in.end += len;
	}
	if (ended)
		stream_end(stream);
	else if (stream->local_fd < 0)
		stream_close(stream); /* closed for an earlier host */
	else
		settle(stream, false);
}

void stream_end(struct stream *stream)
{
	int available = 0;

	/* Not connected: the output stays in the pipe, in case the host comes for it. */
	if (!stream->process || (stream->to_remote && !stream_busy(stream)))
		return;
	if (!stream->to_remote) {
		stream_close(stream);
		return;
	}
	if (stream_mux_connected(stream)) {
		stream_mux_end(stream);
		return;
	}
	stream->ended = true;
	stream->left = TTY_DRAIN_MAX;
	if (!stream->tty) {
		if (stream->local_fd < 0 || ioctl(stream->local_fd, FIONREAD, &available) < 0)
			available = 0;
		stream->left = (size_t)available;
	}
	if (stream->left == 0)
		stream->local_eof = true;
	else
		read_local(stream);
	settle(stream, write_remote(stream) < 0);
}
