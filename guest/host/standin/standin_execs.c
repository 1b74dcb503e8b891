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
	START_TIME_FIELD = 20, /* of /proc/PID/stat, counted from the end of the command's name */
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

/* In clock ticks since boot; 0: there is no such process. */
static uint64_t start_time(int pid)
{
	char path[32], text[1024], *at;
	uint64_t start = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (!read_text(AT_FDCWD, path, text, sizeof(text)))
		return 0;
	/* The name may have spaces and parentheses in it. */
	at = strrchr(text, ')');
	for (int field = 0; at != NULL && field < START_TIME_FIELD; field++)
		at = strchr(at + 1, ' ');
	return at != NULL && sscanf(at, "%" SCNu64, &start) == 1 ? start : 0;
}

/* The process of a pid file; -1 where it has gone, or is only about to be. */
static int open_process(int folder, const char *name)
{
	char text[64];
	uint64_t start;
	int pid, fd;

	if (!read_text(folder, name, text, sizeof(text)) || sscanf(text, "%d %" SCNu64, &pid, &start) != 2 || pid <= 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* Now it cannot become another one's; it may have been that already. */
	if (fd >= 0 && start_time(pid) != start) {
		close(fd);
		return -1;
	}
	return fd;
}

void execs_wait(const char *folder)
{
	int64_t left, end = now_ms() + DEADLINE_MS;
	DIR *dir = opendir(folder);
	struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		struct pollfd pfd = { .fd = open_process(dirfd(dir), entry->d_name), .events = POLLIN };

		if (pfd.fd < 0)
			continue;
		left = end - now_ms();
		poll(&pfd, 1, left > 0 ? (int)left : 0);
		close(pfd.fd);
	}
	closedir(dir);
}
