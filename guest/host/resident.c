/* SPDX-License-Identifier: Apache-2.0 */
#include "resident.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { FDS_MAX = 4 };

int resident_fd_argument(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	return *text == '\0' || *end != '\0' || value < 0 || value > INT16_MAX || fcntl((int)value, F_GETFD) < 0 ? -1 : (int)value;
}

static int nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* An engine waits for the end of its pipes, and a mount that is somebody's working directory stays busy. */
int resident_detach(const int *fds, size_t count)
{
	int end = RESIDENT_FD + (int)count, high[FDS_MAX], null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || count > FDS_MAX)
		return null < 0 ? -errno : -EINVAL;
	for (size_t i = 0; i < count; i++) {
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, end);
		if (high[i] < 0)
			return -errno;
	}
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (null != fd && dup2(null, fd) < 0)
			return -errno;
	for (size_t i = 0; i < count; i++) {
		int ret;

		if (dup3(high[i], RESIDENT_FD + (int)i, O_CLOEXEC) < 0)
			return -errno;
		ret = nonblocking(RESIDENT_FD + (int)i);
		if (ret < 0)
			return ret;
	}
	if (close_range((unsigned int)end, ~0U, 0) < 0 || chdir("/") < 0)
		return -errno;
	setsid();
	return 0;
}

int resident_signals(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

void resident_file_limit(unsigned int wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	setrlimit(RLIMIT_NOFILE, &limit);
}
