/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"

enum { FILE_MODE = 0600, BACKLOG = 64, NAME_ROOM = 64, STAT_MAX = 1024, START_TIME_FIELD = 20 /* behind the command's parenthesis */ };

static const char reserved[] = ".exit";

int folder_take(int folder)
{
	static const char *const stale[] = { "exit", "pid", "process.pid", "command.pid", "attach.sock", "console.sock", "monitor.pid" };

	if (flock(folder, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(stale) / sizeof(*stale); i++)
		if (unlinkat(folder, stale[i], 0) < 0 && errno != ENOENT)
			return -errno;
	return 0;
}

int folder_listen(int folder, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int len = snprintf(address.sun_path, sizeof(address.sun_path), "%s", name), ret = 0;
	mode_t mask;

	if (fd < 0 || len < 0 || (size_t)len >= sizeof(address.sun_path))
		return fd < 0 ? -errno : -ENAMETOOLONG;
	/* From within, for the path of the folder may be longer than an address. */
	if (fchdir(folder) < 0)
		return -errno;
	mask = umask(0077);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
		ret = -errno;
	umask(mask);
	if (chdir("/") < 0 && ret == 0)
		ret = -errno;
	return ret < 0 ? ret : steal_fd(&fd);
}

int folder_receive(int listener)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char name[256];
	struct iovec iov = { .iov_base = name, .iov_len = sizeof(name) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space) };
	cleanup_close int link = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct cmsghdr *header;
	int fd;

	if (link < 0 || recvmsg(link, &msg, MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&msg);
	if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -EBADMSG;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int folder_write(int folder, const char *name, const char *text, size_t len)
{
	char temporary[NAME_ROOM];
	int ret;

	snprintf(temporary, sizeof(temporary), ".%s.new", name);
	{
		cleanup_close int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);

		ret = fd < 0 ? -errno : write_all(fd, text, len);
	}
	if (ret == 0 && renameat(folder, temporary, folder, name) < 0)
		ret = -errno;
	if (ret < 0)
		unlinkat(folder, temporary, 0);
	return ret;
}

/* In clock ticks since the boot; 0: unknown. */
static unsigned long long start_time(pid_t pid)
{
	char path[NAME_ROOM], text[STAT_MAX];
	cleanup_close int fd = -1;
	ssize_t len;
	char *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (len < 0)
		return 0;
	text[len] = '\0';
	at = strrchr(text, ')');
	for (int i = 0; at != NULL && i < START_TIME_FIELD; i++)
		at = strchr(at + 1, ' ');
	return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

int folder_write_identity(int folder, const char *name, pid_t pid)
{
	char text[NAME_ROOM];
	int len = snprintf(text, sizeof(text), "%d %llu", (int)pid, start_time(pid));

	return folder_write(folder, name, text, (size_t)len);
}

pid_t folder_read_pid(int folder, const char *name)
{
	cleanup_close int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[NAME_ROOM], *end;
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	long pid;

	if (len < 0)
		return -errno;
	text[len] = '\0';
	pid = strtol(text, &end, 10);
	return pid > 0 && pid <= INT32_MAX && (*end == '\0' || *end == '\n') ? (pid_t)pid : -EINVAL;
}

int folder_reserve_exit(int folder)
{
	char blank[FOLDER_EXIT_MAX];
	cleanup_close int fd = openat(folder, reserved, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);

	memset(blank, ' ', sizeof(blank));
	return fd < 0 ? -errno : write_all(fd, blank, sizeof(blank));
}

int folder_write_exit(int folder, const char *text, size_t len)
{
	cleanup_close int fd = openat(folder, reserved, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
	int ret = fd < 0 ? -errno : write_all(fd, text, len);

	if (ret < 0)
		return ret;
	return ftruncate(fd, (off_t)len) < 0 || renameat(folder, reserved, folder, "exit") < 0 ? -errno : 0;
}
