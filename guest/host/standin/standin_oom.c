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
	DEADLINE_MS = 3000, /* what is cached for QEMU goes first, and that may take the slower part of it */
	/*
	 * The first is to be killed. For a moment after that its memory may still be counted while the kernel already looks for another one, which must not
	 * be QEMU.
	 */
	VICTIMS = 3,
	PREPARE_MS = 3000,
	LINGER_MS = 200,
	BLOCK = 2 << 20, /* see inflate */
	MARGIN = 16 << 20,
};

/* Beyond this a machine is left alone: its victims would need too many mappings. */
#define INFLATE_MAX (64LL << 30)

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

/* A limit as it was, and as it is for a moment; low is empty where it is not to be touched. */
struct limit {
	const char *name;
	char old[64], low[64];
};

/* No more than is used now, and slack. */
static void plan_limit(int folder, const struct files *files, uint64_t slack, struct limit *limit)
{
	char usage[64];

	*limit = (struct limit){ .name = files->limit };
	if (read_file(folder, files->limit, limit->old) && read_file(folder, files->usage, usage))
		snprintf(limit->low, sizeof(limit->low), "%" PRIu64, ((uint64_t)strtoull(usage, NULL, 10) + slack) / PAGE * PAGE);
}

static bool lower(int folder, const struct limit *limit)
{
	return *limit->low && write_file(folder, limit->name, limit->low);
}

/* What somebody else has set meanwhile, or was never lowered, stays. */
static void restore(int folder, const struct limit *limit)
{
	char now[64];

	if (*limit->low && read_file(folder, limit->name, now) && strtoull(now, NULL, 10) == strtoull(limit->low, NULL, 10))
		write_file(folder, limit->name, limit->old);
}

static int64_t number_in(int pid, const char *name, int field)
{
	char path[64], text[128], *word, *rest = text;
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	word = strtok_r(text, " \n", &rest);
	while (word != NULL && field-- > 0)
		word = strtok_r(NULL, " \n", &rest);
	return word == NULL ? 0 : strtoll(word, NULL, 10);
}

/*
 * How big a victim has to look. The kernel kills whoever has most pages, to which oom_score_adj adds the limit, or that part of it; and QEMU can have more
 * pages than the limit is, since those count that others brought in: of its program, and of the template that it is a clone of. -1: unknown.
 */
static int64_t needed_size(int folder, int64_t limit)
{
	int fd = openat(folder, "cgroup.procs", O_RDONLY | O_CLOEXEC), pid;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	int64_t most = 0;

	if (file == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while (fscanf(file, "%d", &pid) == 1) {
		int64_t resident = number_in(pid, "statm", 1) * PAGE;
		int64_t score = resident + resident / 256 + limit / 1000 * number_in(pid, "oom_score_adj", 0);

		most = score > most ? score : most;
	}
	fclose(file);
	return most > limit ? most - limit + MARGIN : MARGIN;
}

/* Counts as so much memory, and takes next to none: one block of it, mapped again and again. */
static bool inflate(int block, int64_t size)
{
	for (int64_t done = 0; done < size; done += BLOCK) {
		if (mmap(NULL, BLOCK, PROT_READ, MAP_SHARED | MAP_POPULATE, block, 0) == MAP_FAILED)
			return false;
	}
	return true;
}

struct orders {
	int folder;
	int block;    /* a memfd of BLOCK bytes */
	int64_t size; /* to look like */
	int ready;    /* where to say so */
	int start;    /* where to be told to begin */
	size_t take;  /* so much memory, until it is killed; 0: stand by */
};

/* A child that the kernel likes best to kill. */
static _Noreturn void be_victim(const struct orders *orders)
{
	volatile char *memory;
	char word = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!write_file(AT_FDCWD, "/proc/self/oom_score_adj", "1000") || !write_file(orders->folder, "cgroup.procs", "0") ||
	    !inflate(orders->block, orders->size) || write(orders->ready, &word, 1) != 1)
		_exit(1);
	while (orders->take == 0)
		pause();
	if (read(orders->start, &word, 1) != 1)
		_exit(1);
	memory = mmap(NULL, orders->take, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		_exit(1);
	for (size_t at = 0; at < orders->take; at += PAGE)
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

/* Swap has the second: in v1 it counts memory too, and may not be less. Memory that could be swapped out would never run out. */
struct limits {
	struct limit memory, swap;
};

static void restore_all(int folder, const struct limits *limits)
{
	restore(folder, &limits->swap);
	restore(folder, &limits->memory);
}

/* A child that restores the limits when we are gone, should we be killed meanwhile. It is to end when the end of the pipe that is returned is closed; -1: there is none. */
static int set_guard(int folder, const struct limits *limits, pid_t *guard)
{
	int link[2];
	char word;

	if (pipe2(link, O_CLOEXEC) < 0)
		return -1;
	*guard = fork();
	if (*guard == 0) {
		close(link[1]);
		while (read(link[0], &word, 1) < 0 && errno == EINTR)
			;
		restore_all(folder, limits);
		_exit(0);
	}
	close(link[0]);
	if (*guard > 0)
		return link[1];
	close(link[1]);
	return -1;
}

static void run_out(int folder, const struct version *version, int events, int start)
{
	struct limits limits;
	pid_t guard;
	int link;

	plan_limit(folder, &version->memory, SLACK, &limits.memory);
	plan_limit(folder, &version->swap, version->counts ? 0 : SLACK, &limits.swap);
	link = set_guard(folder, &limits, &guard);
	if (link < 0)
		return;
	if (lower(folder, &limits.memory)) {
		lower(folder, &limits.swap);
		if (write(start, "", 1) == 1)
			wait_for_event(events, version->counts);
	}
	/* At once: not when the victim is gone, which takes longer. */
	restore_all(folder, &limits);
	close(link);
	waitpid(guard, NULL, 0);
}

/* Whether so many have said that they are ready. */
static bool all_ready(int fd, int count)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int64_t left, end = now_ms() + PREPARE_MS;
	char word;

	while (count > 0) {
		left = end - now_ms();
		if (left <= 0 || poll(&pfd, 1, (int)left) != 1 || read(fd, &word, 1) != 1)
			return false;
		count--;
	}
	return true;
}

static void show_with(struct orders *orders, const struct version *version, int events, int ready, int start)
{
	pid_t victims[VICTIMS];
	int count;

	for (count = 0; count < VICTIMS; count++) {
		orders->take = count == 0 ? (size_t)RECLAIM_MAX + 2 * SLACK : 0;
		victims[count] = fork();
		if (victims[count] == 0)
			be_victim(orders);
		if (victims[count] < 0)
			break;
	}
	if (count == VICTIMS && all_ready(ready, count)) {
		run_out(orders->folder, version, events, start);
		kill(victims[0], SIGKILL);
		/* Somebody may have run out of memory at the same moment, and look for whom to kill only now. */
		poll(NULL, 0, LINGER_MS);
	}
	while (count-- > 0) {
		kill(victims[count], SIGKILL);
		waitpid(victims[count], NULL, 0);
	}
}

static void show(int folder, const struct version *version, int events)
{
	struct orders orders = { .folder = folder };
	int ready[2], start[2];
	char usage[64];

	if (!read_file(folder, version->memory.usage, usage))
		return;
	orders.size = needed_size(folder, strtoll(usage, NULL, 10));
	if (orders.size < 0 || orders.size > INFLATE_MAX || pipe2(ready, O_CLOEXEC) < 0)
		return;
	if (pipe2(start, O_CLOEXEC) == 0) {
		orders.ready = ready[1];
		orders.start = start[0];
		orders.block = memfd_create("oom", MFD_CLOEXEC);
		if (orders.block >= 0 && ftruncate(orders.block, BLOCK) == 0)
			show_with(&orders, version, events, ready[0], start[1]);
		if (orders.block >= 0)
			close(orders.block);
		close(start[0]);
		close(start[1]);
	}
	close(ready[0]);
	close(ready[1]);
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
