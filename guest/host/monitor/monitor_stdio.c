/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { TERMINAL_AGAIN_MS = 100 };

static void output_event(struct loop *loop, struct watch *watch, uint32_t events);

/* Not reading means not watching: a pipe whose writers are gone would be reported for ever. */
static int output_watch(struct output *output, bool on)
{
	struct loop *loop = output->stdio->loop;

	if (!on)
		loop_del(loop, &output->watch);
	else if (output->fd >= 0 && output->watch.fn == NULL)
		return loop_add(loop, &output->watch, output->fd, EPOLLIN, output_event);
	return 0;
}

static void output_close(struct output *output)
{
	output_watch(output, false);
	loop_disarm(output->stdio->loop, &output->again);
	if (output->fd >= 0)
		close(output->fd);
	output->fd = -1;
}

static void output_again(struct loop *loop, struct timer *timer)
{
	struct output *output = container_of(timer, struct output, again);

	(void)loop;
	if (!output->held && output_watch(output, true) < 0)
		output_close(output);
}

static void output_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct output *output = container_of(watch, struct output, watch);
	struct stdio *stdio = output->stdio;
	ssize_t n = read(output->fd, stdio->scratch, sizeof(stdio->scratch));

	(void)events;
	if (n > 0) {
		stdio->ops->output(stdio, (int)(output - stdio->outputs), stdio->scratch, (size_t)n);
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (stdio->terminal && !stdio->ended) {
		output_watch(output, false);
		loop_arm(loop, &output->again, TERMINAL_AGAIN_MS, output_again);
		return;
	}
	output_close(output);
}

static void input_close(struct stdio *stdio)
{
	loop_del(stdio->loop, &stdio->in_watch);
	if (stdio->in_fd >= 0)
		close(stdio->in_fd);
	stdio->in_fd = -1;
	buf_free(&stdio->in);
}

/* Writes what the process takes now. */
static void input_write(struct stdio *stdio)
{
	while (stdio->in_fd >= 0 && buf_len(&stdio->in) > 0) {
		ssize_t n = write(stdio->in_fd, buf_head(&stdio->in), buf_len(&stdio->in));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0)
			input_close(stdio);
		else
			buf_consume(&stdio->in, (size_t)n);
	}
	if (stdio->in_end && !stdio->terminal && buf_len(&stdio->in) == 0)
		input_close(stdio);
}

static void input_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct stdio *stdio = container_of(watch, struct stdio, in_watch);

	(void)loop;
	/* Nobody will read it. A terminal's hangup may end. */
	if ((events & EPOLLERR) && !stdio->terminal)
		input_close(stdio);
	else
		input_write(stdio);
	if (buf_len(&stdio->in) > 0)
		return;
	loop_del(stdio->loop, &stdio->in_watch);
	stdio->ops->input_taken(stdio);
}

bool stdio_input_ready(const struct stdio *stdio)
{
	return buf_len(&stdio->in) == 0;
}

void stdio_input(struct stdio *stdio, const uint8_t *data, size_t len)
{
	if (stdio->in_fd < 0 || stdio->in_end || stdio->ended)
		return;
	if (buf_append(&stdio->in, data, len, STDIO_IN_MAX) < 0)
		return;
	input_write(stdio);
	if (buf_len(&stdio->in) > 0 && stdio->in_watch.fn == NULL && loop_add(stdio->loop, &stdio->in_watch, stdio->in_fd, EPOLLOUT, input_event) < 0)
		input_close(stdio);
}

void stdio_input_end(struct stdio *stdio)
{
	if (stdio->terminal)
		return;
	stdio->in_end = true;
	input_write(stdio);
}

int stdio_resize(const struct stdio *stdio, unsigned int rows, unsigned int columns)
{
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };

	if (!stdio->terminal || stdio->outputs[0].fd < 0)
		return -ENOTTY;
	return ioctl(stdio->outputs[0].fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

static int nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

void stdio_init(struct stdio *stdio, struct loop *loop, const struct stdio_ops *ops)
{
	stdio->loop = loop;
	stdio->ops = ops;
	stdio->in_fd = -1;
	for (int i = 0; i < STDIO_OUTPUTS; i++)
		stdio->outputs[i] = (struct output){ .stdio = stdio, .fd = -1 };
}

static int output_start(struct output *output, int fd)
{
	int ret;

	output->fd = fd;
	if (fd < 0)
		return 0;
	ret = nonblocking(fd);
	return ret < 0 || output->held ? ret : output_watch(output, true);
}

int stdio_start_pipes(struct stdio *stdio, int in_fd, int out_fd, int err_fd)
{
	int in = in_fd < 0 ? 0 : nonblocking(in_fd);
	int out = output_start(&stdio->outputs[0], out_fd);
	int err = output_start(&stdio->outputs[1], err_fd);

	stdio->in_fd = in_fd;
	return in < 0 ? in : out < 0 ? out : err;
}

int stdio_start_terminal(struct stdio *stdio, int master)
{
	int ret;

	stdio->terminal = true;
	/* Each is watched for something else, which one descriptor can be but once. */
	stdio->in_fd = fcntl(master, F_DUPFD_CLOEXEC, 0);
	ret = stdio->in_fd < 0 ? -errno : 0;
	return output_start(&stdio->outputs[0], master) < 0 ? -EIO : ret;
}

void stdio_hold(struct stdio *stdio, int number, bool held)
{
	struct output *output = &stdio->outputs[number];

	if (output->held == held)
		return;
	output->held = held;
	if (output->again.due_ms == 0 && output_watch(output, !held) < 0)
		output_close(output);
}

bool stdio_drained(const struct stdio *stdio)
{
	return stdio->outputs[0].fd < 0 && stdio->outputs[1].fd < 0;
}

void stdio_process_ended(struct stdio *stdio)
{
	stdio->ended = true;
	input_close(stdio);
	stdio->ops->input_taken(stdio);
}

void stdio_fini(struct stdio *stdio)
{
	input_close(stdio);
	for (int i = 0; i < STDIO_OUTPUTS; i++)
		output_close(&stdio->outputs[i]);
}
