/* SPDX-License-Identifier: Apache-2.0 */
#include "cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

#define CPU "/sys/devices/system/cpu/cpu%d"

enum { WAIT_MS = 10000, POLL_MS = 10, CPUS_MAX = 4096, PATH_LEN = 64 };

/* Numbers are given in the order in which CPUs came. */
static bool present(int number)
{
	char path[PATH_LEN];

	snprintf(path, sizeof(path), CPU, number);
	return access(path, F_OK) == 0;
}

static bool all_present(int count)
{
	for (int ms = 0; !present(count - 1); ms += POLL_MS) {
		if (ms >= WAIT_MS)
			return false;
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000L }, NULL);
	}
	return true;
}

/* What is as it should be is not touched. The first one has no file where it cannot go. */
static int set_online(int number, bool wanted)
{
	char path[PATH_LEN], state, text = wanted ? '1' : '0';
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), CPU "/online", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return number == 0 && errno == ENOENT ? 0 : -1;
	if (pread(fd, &state, 1, 0) != 1)
		return -1;
	return state == text || pwrite(fd, &text, 1, 0) == 1 ? 0 : -1;
}

int cpus_use(const struct node *args, json_t **result, struct error *error)
{
	int64_t count;

	if (get_int(args, "count", 1, CPUS_MAX, &count, error) < 0)
		return -1;
	if (!all_present((int)count))
		return error_sys(error, ENODEV, "cannot find CPU %d in the guest", (int)count - 1);
	for (int number = 0; present(number); number++) {
		if (set_online(number, number < count) < 0)
			return error_sys(error, errno, "cannot set CPU %d %s", number, number < count ? "online" : "offline");
	}
	*result = json_pack("{s:I}", "count", (json_int_t)count);
	return 0;
}
