/* SPDX-License-Identifier: Apache-2.0 */
#include "standin_execs.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop.h"

enum {
	DEADLINE_MS = 2000,
	STEP_MS = 1, /* most kernels' descriptors do not tell that their process was waited for */
};

/* What /proc says of a process, also of one that has ended and was not waited for. */
struct seen {
	int parent;
	uint64_t start; /* in clock ticks since boot */
};

/* As a string; false where there is nothing. */
static bool read_text(int folder, const char *name, char *text, size_t size)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static bool look(int pid, struct seen *seen)
{
	char path[32], text[1024], *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (!read_text(AT_FDCWD, path, text, sizeof(text)))
		return false;
	/* The name, in parentheses, may have spaces and parentheses in it. */
	at = strrchr(text, ')');
	return at != NULL && sscanf(at,
				    ") %*c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %" SCNu64,
				    &seen->parent, &seen->start) == 2;
}

/* The process of a pid file; -1 where it has gone, or is only about to be. */
static int open_process(int folder, const char *name, struct seen *seen)
{
	char text[64];
	uint64_t start;
	int pid, fd;

	if (!read_text(folder, name, text, sizeof(text)) || sscanf(text, "%d %" SCNu64, &pid, &start) != 2 || pid <= 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* Now it cannot become another one's; it may have been that already. */
	if (fd >= 0 && (!look(pid, seen) || seen->start != start)) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool wait_until(int process, short events, int64_t end)
{
	struct pollfd pfd = { .fd = process, .events = events };
	int64_t left = end - now_ms();

	return poll(&pfd, 1, left > 0 ? (int)left : 0) > 0;
}

/* Who waits for any of its children is told of the one it has longest, not of the one that was first to end. */
static void wait_reaped(int process, int64_t end)
{
	int64_t now;

	while (syscall(SYS_pidfd_send_signal, process, 0, NULL, 0) == 0 && (now = now_ms()) < end)
		wait_until(process, 0, now + STEP_MS);
}

void execs_wait(const char *folder)
{
	int64_t end = now_ms() + DEADLINE_MS;
	DIR *dir = opendir(folder);
	int parent = getppid();
	struct dirent *entry;
	struct seen seen;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		int process = open_process(dirfd(dir), entry->d_name, &seen);

		if (process < 0)
			continue;
		/* The host's init only clears away, if it does that. */
		if (wait_until(process, POLLIN, end) && seen.parent == parent && parent != 1)
			wait_reaped(process, end);
		close(process);
	}
	closedir(dir);
}
