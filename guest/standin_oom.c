/* SPDX-License-Identifier: Apache-2.0 */
#include "standin_oom.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop.h"

enum {
	SLACK = 8 << 20,      /* what the victim takes before it is killed, and leaves to all others afterwards */
	RECLAIM_MAX = 1 << 30, /* of caches in the cgroup, which have to go first */
	PAGE = 4096,
	DEADLINE_MS = 1000,
	/*
	 * The first is to be killed. For a moment after that its memory may still be counted while the kernel already looks for another one, which must not
	 * be QEMU.
	 */
	VICTIMS = 3,
};

/* What a version calls the files: how much is used, and the limit. The first pair is memory, the second one memory and swap (v2: swap alone). */
struct files {
	const char *usage, *limit;
};

static const struct version {
	struct files memory, swap;
	const char *events; /* v1: what an eventfd can be registered for. v2: has counters, and says when they change */
	bool counts;
} versions[] = {
	{ { "memory.usage_in_bytes", "memory.limit_in_bytes" }, { "memory.memsw.usage_in_bytes", "memory.memsw.limit_in_bytes" }, "memory.oom_control", false },
	{ { "memory.current", "memory.max" }, { "memory.swap.current", "memory.swap.max" }, "memory.events", true },
};

static bool read_file(int folder, const char *name, char text[64])
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, 63);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static bool write_file(int folder, const char *name, const char *text)
{
	int fd = openat(folder, name, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) >= 0;

	if (fd >= 0)
		close(fd);
	return done;
}

/* Lets the cgroup use no more than it does now, and slack. old: the limit as it was; empty where it was not touched. */
static bool lower(int folder, const struct files *files, uint64_t slack, char old[64])
{
	char usage[64], text[64];

	if (!read_file(folder, files->limit, old) || !read_file(folder, files->usage, usage)) {
		old[0] = '\0';
		return false;
	}
	snprintf(text, sizeof(text), "%" PRIu64, ((uint64_t)strtoull(usage, NULL, 10) + slack) / PAGE * PAGE);
	if (write_file(folder, files->limit, text))
		return true;
	old[0] = '\0';
	return false;
}

static void restore(int folder, const struct files *files, const char *old)
{
	if (*old)
		write_file(folder, files->limit, old);
}

/* A child that the kernel likes best to kill. The one that is given memory to take begins when told to, and goes on until it is killed. */
static _Noreturn void be_victim(int folder, int start, size_t size)
{
	volatile char *memory;
	char word;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!write_file(AT_FDCWD, "/proc/self/oom_score_adj", "1000") || !write_file(folder, "cgroup.procs", "0"))
		_exit(1);
	while (size == 0)
		pause();
	if (read(start, &word, 1) != 1)
		_exit(1);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		_exit(1);
	for (size_t at = 0; at < size; at += PAGE)
		memory[at] = 1;
	_exit(1);
}

static uint64_t kills(int events)
{
	char text[512], *found;
	ssize_t n = pread(events, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	found = strstr(text, "oom_kill ");
	return found ? (uint64_t)strtoull(found + strlen("oom_kill "), NULL, 10) : 0;
}

/* A descriptor that poll(2) finds ready after an event; -1: none. */
static int watch_events(int folder, const struct version *version)
{
	int control = openat(folder, version->events, O_RDONLY | O_CLOEXEC);
	char text[32];
	int fd;

	if (control < 0 || version->counts)
		return control;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	snprintf(text, sizeof(text), "%d %d", fd, control);
	if (fd >= 0 && !write_file(folder, "cgroup.event_control", text)) {
		close(fd);
		fd = -1;
	}
	close(control);
	return fd;
}

/* Until there was an event, or it takes too long. */
static void wait_for_event(int events, bool counts)
{
	struct pollfd pfd = { .fd = events, .events = counts ? POLLPRI : POLLIN };
	uint64_t before = counts ? kills(events) : 0;
	int64_t left, end = now_ms() + DEADLINE_MS;

	do {
		left = end - now_ms();
		if (left <= 0 || poll(&pfd, 1, (int)left) != 1)
			return;
	} while (counts && kills(events) == before);
}

/* Whether the kernel would kill all of the cgroup at once. */
static bool kills_groups(int folder)
{
	char text[64];

	return read_file(folder, "memory.oom.group", text) && text[0] == '1';
}

static void run_out(int folder, const struct version *version, int events, int start)
{
	char memory[64] = "", swap[64] = "";

	/* Swap second: in v1 it counts memory too, and may not be less. Memory that could be swapped out would never run out. */
	if (!lower(folder, &version->memory, SLACK, memory))
		return;
	lower(folder, &version->swap, version->counts ? 0 : SLACK, swap);
	if (write(start, "", 1) == 1)
		wait_for_event(events, version->counts);
	/* At once: not when the victim is gone, which takes longer. */
	restore(folder, &version->swap, swap);
	restore(folder, &version->memory, memory);
}

static void show(int folder, const struct version *version, int events)
{
	pid_t victims[VICTIMS];
	int start[2], count;

	if (pipe2(start, O_CLOEXEC) < 0)
		return;
	for (count = 0; count < VICTIMS; count++) {
		victims[count] = fork();
		if (victims[count] == 0)
			be_victim(folder, start[0], count == 0 ? (size_t)RECLAIM_MAX + 2 * SLACK : 0);
		if (victims[count] < 0)
			break;
	}
	if (count == VICTIMS)
		run_out(folder, version, events, start[1]);
	while (count-- > 0) {
		kill(victims[count], SIGKILL);
		waitpid(victims[count], NULL, 0);
	}
	close(start[0]);
	close(start[1]);
}

void oom_show(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), events;

	if (fd < 0)
		return;
	for (size_t i = 0; i < sizeof(versions) / sizeof(*versions); i++) {
		if (faccessat(fd, versions[i].memory.limit, W_OK, 0) < 0 || kills_groups(fd))
			continue;
		events = watch_events(fd, &versions[i]);
		if (events < 0)
			continue;
		show(fd, &versions[i], events);
		close(events);
	}
	close(fd);
}
