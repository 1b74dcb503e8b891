/* SPDX-License-Identifier: Apache-2.0 */
#include "standin_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum { STEPS_MAX = 16 }; /* for one pump, before the others have their turn */

static void end_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct end *end = container_of(watch, struct end, watch);

	(void)loop;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		end->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		end->writable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		end->hung = true;
	if (end->terminal && (events & EPOLLHUP))
		copier_hangup(end->copier);
}

static void end_close(struct end *end)
{
	if (end->fd < 0)
		return;
	loop_del(end->copier->loop, &end->watch);
	close(end->fd);
	end->fd = -1;
}

/*
 * Gives fd a file description of its own that does not block, in place of the one it shares with the caller and with whoever else holds it: making that
 * one non-blocking would break them. False: it could not be had (no /proc, not ours, a fifo that nobody reads).
 */
static bool reopen(int fd)
{
	char path[sizeof("/proc/self/fd/") + 10];
	int flags = fcntl(fd, F_GETFL), own;
	bool done;

	if (flags < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (own < 0)
		return false;
	done = dup3(own, fd, O_CLOEXEC) >= 0;
	close(own);
	return done;
}

static struct end *end_add(struct copier *copier, int fd)
{
	struct end *end = &copier->ends[copier->end_count++];
	struct stat st;

	*end = (struct end){ .copier = copier, .fd = fd };
	if (fstat(fd, &st) < 0)
		return end;
	end->socket = S_ISSOCK(st.st_mode);
	end->pipe = S_ISFIFO(st.st_mode);
	if (end->pipe || isatty(fd))
		end->shared = !reopen(fd);
	/* Regular files and some devices cannot be waited for: they are always ready. */
	if (loop_add(copier->loop, &end->watch, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, end_event) < 0)
		end->readable = end->writable = true;
	return end;
}

/* A connection of ours alone, so its description may be changed; splice looks at nothing else. */
static struct end *stream_add(struct copier *copier, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	return end_add(copier, fd);
}

static void pump_add(struct copier *copier, struct end *from, struct end *to, bool output)
{
	copier->pumps[copier->pump_count++] = (struct pump){
		.from = from,
		.to = to,
		.output = output,
		.splice = (from->pipe && to->socket) || (from->socket && to->pipe),
	};
}

int copier_start_streams(struct copier *copier, struct loop *loop, const int streams[3])
{
	copier->loop = loop;
	pump_add(copier, end_add(copier, STDIN_FILENO), stream_add(copier, streams[0]), false);
	pump_add(copier, stream_add(copier, streams[1]), end_add(copier, STDOUT_FILENO), true);
	pump_add(copier, stream_add(copier, streams[2]), end_add(copier, STDERR_FILENO), true);
	return 0;
}

int copier_start_terminal(struct copier *copier, struct loop *loop, int stream, int terminal)
{
	struct end *inner, *outer;

	if (!isatty(terminal))
		return -ENOTTY;
	copier->loop = loop;
	inner = stream_add(copier, stream);
	outer = end_add(copier, terminal);
	outer->terminal = true;
	pump_add(copier, outer, inner, false);
	pump_add(copier, inner, outer, true);
	return 0;
}

static bool end_poll(const struct end *end, short events)
{
	struct pollfd pfd = { .fd = end->fd, .events = events };

	return poll(&pfd, 1, 0) > 0;
}

/* A process of the background is refused its terminal's input, which is no hangup. */
static bool in_background(const struct end *end)
{
	pid_t group = end->terminal ? tcgetpgrp(end->fd) : -1;

	return group > 0 && group != getpgrp();
}

/* Bytes, 0 at the end of input, -EAGAIN (and then no longer readable), or -errno. */
static ssize_t end_read(struct end *end, void *data, size_t len)
{
	ssize_t n;

	if (end->shared && !end_poll(end, POLLIN)) {
		end->readable = false;
		return -EAGAIN;
	}
	n = end->socket ? recv(end->fd, data, len, MSG_DONTWAIT) : read(end->fd, data, len);
	/* Only a hangup ends a terminal; a terminal that is not raw can read as empty. */
	if (n == 0 && end->terminal && !end_poll(end, 0)) {
		end->readable = false;
		return -EAGAIN;
	}
	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR || (errno == EIO && in_background(end))) {
		end->readable = false;
		return -EAGAIN;
	}
	return -errno;
}

/* Bytes, -EAGAIN (and then no longer writable), or -errno. */
static ssize_t end_write(struct end *end, const void *data, size_t len)
{
	ssize_t n;

	if (end->shared) {
		/* A terminal asks for room once more for every character that it has to translate. */
		size_t promised = end->pipe ? PIPE_BUF : 1;

		if (len > promised)
			len = promised;
		if (!end_poll(end, POLLOUT)) {
			end->writable = false;
			return -EAGAIN;
		}
	}
	n = end->socket ? send(end->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) : write(end->fd, data, len);
	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR) {
		end->writable = false;
		return -EAGAIN;
	}
	return -errno;
}

/* The receiving side takes nothing any more. */
static void pump_broken(struct pump *pump)
{
	pump->done = true;
	buf_free(&pump->rest);
	if (pump->to->terminal) {
		copier_hangup(pump->to->copier);
	} else if (!pump->from->terminal) {
		end_close(pump->from);
		end_close(pump->to);
	}
}

/* All was copied. */
static void pump_finish(struct pump *pump)
{
	pump->done = true;
	if (pump->from->terminal) {
		copier_hangup(pump->from->copier);
	} else if (!pump->output) {
		/* Only half of it: a full close would let data be lost that the guest is slow to take. */
		shutdown(pump->to->fd, SHUT_WR);
		end_close(pump->from);
	} else if (!pump->to->terminal) {
		/* The reader sees the end of it now, even if the process lives on. A terminal stays until the process has ended. */
		end_close(pump->from);
		end_close(pump->to);
	}
}

static bool pump_write(struct pump *pump, const uint8_t *data, size_t len)
{
	ssize_t n = end_write(pump->to, data, len);

	if (n < 0 && n != -EAGAIN) {
		pump_broken(pump);
		return false;
	}
	if (n < 0)
		n = 0;
	if (buf_append(&pump->rest, data + n, len - (size_t)n, COPY_BUFFER) < 0) {
		pump_broken(pump);
		return false;
	}
	return true;
}

static bool pump_copy(struct pump *pump)
{
	uint8_t *scratch = pump->from->copier->scratch;
	ssize_t n = end_read(pump->from, scratch, COPY_BUFFER);

	if (n > 0)
		return pump_write(pump, scratch, (size_t)n);
	if (n == -EAGAIN)
		return false;
	pump->eof = true;
	return true;
}

static bool pump_splice(struct pump *pump)
{
	struct end *from = pump->from, *to = pump->to;
	ssize_t n = splice(from->fd, NULL, to->fd, NULL, COPY_BUFFER, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (n > 0)
		return true;
	if (n == 0) {
		pump->eof = true;
		return true;
	}
	if (errno == EAGAIN) {
		/* It does not say which of the two it would have to wait for. */
		from->readable = end_poll(from, POLLIN);
		to->writable = end_poll(to, POLLOUT);
		if (!from->readable || !to->writable)
			return false;
	}
	/* Not for these two; or an error, and the slow way tells whose. */
	pump->splice = false;
	return true;
}

static bool pump_step(struct pump *pump)
{
	if (!pump->output && pump->to->hung) {
		pump_broken(pump);
		return false;
	}
	if (buf_len(&pump->rest) > 0) {
		ssize_t n = pump->to->writable ? end_write(pump->to, buf_head(&pump->rest), buf_len(&pump->rest)) : -EAGAIN;

		if (n > 0)
			buf_consume(&pump->rest, (size_t)n);
		else if (n != -EAGAIN)
			pump_broken(pump);
		return n > 0;
	}
	if (pump->eof) {
		pump_finish(pump);
		return false;
	}
	if (!pump->from->readable || !pump->to->writable)
		return false;
	return pump->splice ? pump_splice(pump) : pump_copy(pump);
}

bool copier_run(struct copier *copier)
{
	bool again = false;

	for (int i = 0; i < copier->pump_count; i++) {
		struct pump *pump = &copier->pumps[i];
		int steps = STEPS_MAX;

		while (!pump->done && steps > 0 && pump_step(pump))
			steps--;
		again |= !pump->done && steps == 0;
	}
	return again;
}

bool copier_drained(const struct copier *copier)
{
	for (int i = 0; i < copier->pump_count; i++)
		if (copier->pumps[i].output && !copier->pumps[i].done)
			return false;
	return true;
}

void copier_hangup(struct copier *copier)
{
	for (int i = 0; i < copier->pump_count; i++) {
		copier->pumps[i].done = true;
		buf_free(&copier->pumps[i].rest);
	}
	for (int i = 0; i < copier->end_count; i++)
		end_close(&copier->ends[i]);
}

static const struct end *terminal_of(const struct copier *copier)
{
	for (int i = 0; i < copier->end_count; i++)
		if (copier->ends[i].terminal && copier->ends[i].fd >= 0)
			return &copier->ends[i];
	return NULL;
}

void copier_resume(struct copier *copier)
{
	for (int i = 0; i < copier->end_count; i++)
		if (copier->ends[i].terminal)
			copier->ends[i].readable = true;
}

bool copier_size(const struct copier *copier, unsigned *rows, unsigned *columns)
{
	const struct end *end = terminal_of(copier);
	struct winsize size;

	if (end == NULL || ioctl(end->fd, TIOCGWINSZ, &size) < 0 || (size.ws_row == 0 && size.ws_col == 0))
		return false;
	*rows = size.ws_row;
	*columns = size.ws_col;
	return true;
}
