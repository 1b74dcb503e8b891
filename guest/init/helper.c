/* SPDX-License-Identifier: Apache-2.0 */
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "conn.h"

enum { ANSWER_MAX = WIRE_FRAME_MAX - 4096, HELPERS_MAX = 64 };

struct helper {
	struct agent *agent;
	struct helper *next;
	struct watch watch;
	struct buf answer;
	struct reply *reply;
	pid_t pid;
};

static void write_all(int fd, const void *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(1);
		data = (const char *)data + n;
		len -= (size_t)n;
	}
}

static _Noreturn void run(helper_fn *fn, const struct node *args, int fd)
{
	json_t *result = NULL;
	struct error error;
	char *text;

	/* Copies of connections in a helper that hangs would keep them open. */
	if (dup3(fd, 3, O_CLOEXEC) < 0 && fd != 3)
		_exit(1);
	close_range(4, ~0U, 0);
	signal(SIGPIPE, SIG_DFL);
	if (fn(args, &result, &error) < 0) {
		write_all(3, "e", 1);
		write_all(3, &error, sizeof(error));
		_exit(1);
	}
	text = json_dumps(result ? result : json_object(), JSON_COMPACT);
	if (!text)
		_exit(1);
	write_all(3, "r", 1);
	write_all(3, text, strlen(text));
	_exit(0);
}

static void answer(struct helper *helper)
{
	const char *data = (const char *)buf_head(&helper->answer);
	size_t len = buf_len(&helper->answer);
	struct error error;

	if (len == 1 + sizeof(error) && data[0] == 'e') {
		memcpy(&error, data + 1, sizeof(error));
		error.text[ERROR_TEXT_MAX - 1] = '\0';
		reply_error(helper->reply, &error);
	} else if (len > 1 && data[0] == 'r') {
		reply_ok(helper->reply, json_loadb(data + 1, len - 1, 0, NULL));
	} else {
		error_sys(&error, ECHILD, "the helper process died");
		reply_error(helper->reply, &error);
	}
}

static void finish(struct helper *helper)
{
	struct agent *agent = helper->agent;
	int fd = helper->watch.fd;

	loop_del(&agent->loop, &helper->watch);
	close(fd);
	for (struct helper **link = &agent->helpers; *link; link = &(*link)->next) {
		if (*link == helper) {
			*link = helper->next;
			break;
		}
	}
	answer(helper);
	buf_free(&helper->answer);
	free(helper);
}

static void readable(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct helper *helper = container_of(watch, struct helper, watch);
	char chunk[16384];
	ssize_t n = read(watch->fd, chunk, sizeof(chunk));

	(void)loop;
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && buf_append(&helper->answer, chunk, (size_t)n, ANSWER_MAX) == 0)
		return;
	if (n > 0) {
		/* Too much: an answer that was cut is none. */
		kill(helper->pid, SIGKILL);
		buf_free(&helper->answer);
	}
	finish(helper);
}

static unsigned int count(const struct agent *agent)
{
	unsigned int n = 0;

	for (const struct helper *helper = agent->helpers; helper; helper = helper->next)
		n++;
	return n;
}

int helper_start(struct agent *agent, helper_fn *fn, const struct node *args, struct reply *reply, struct error *error)
{
	struct helper *helper;
	int ends[2], result;

	if (count(agent) >= HELPERS_MAX)
		return error_set(error, KIND_BUSY, "%d requests that take long are under way already", HELPERS_MAX);
	helper = calloc(1, sizeof(*helper));
	if (!helper || pipe2(ends, O_CLOEXEC) < 0) {
		free(helper);
		return error_sys(error, errno, "cannot start a helper");
	}
	helper->watch.fd = -1;
	result = loop_add(&agent->loop, &helper->watch, ends[0], EPOLLIN, readable);
	if (result == 0) {
		helper->pid = fork();
		if (helper->pid == 0)
			run(fn, args, ends[1]);
		result = helper->pid < 0 ? -errno : 0;
	}
	close(ends[1]);
	if (result < 0) {
		loop_del(&agent->loop, &helper->watch);
		close(ends[0]);
		free(helper);
		return error_sys(error, -result, "cannot start a helper");
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	helper->agent = agent;
	helper->reply = reply;
	helper->next = agent->helpers;
	agent->helpers = helper;
	return 0;
}
