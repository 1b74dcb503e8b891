/* SPDX-License-Identifier: Apache-2.0 */
/* A large file and many small ones. */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK (128U << 10)
#define SMALL 4096U
/* A disk's are looked up in no time. */
#define STATS 5U
#define NAME_SIZE 32

static void name_of(char *name, unsigned int number)
{
	snprintf(name, NAME_SIZE, "probe-%u", number);
}

/* Until it is on the disk, which is what makes guests with caches of their own comparable. */
static int write_large(const char *path, unsigned int megabytes)
{
	static char block[BLOCK];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int result = 0;

	if (fd < 0)
		return -1;
	for (size_t left = (size_t)megabytes << 20; left && result == 0; left -= BLOCK)
		result = probe_write(fd, block, BLOCK);
	if (result == 0)
		result = fsync(fd);
	return close(fd) < 0 ? -1 : result;
}

/* Without what this kernel has kept of it; the host's may have it. */
static int forget(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return close(fd) < 0 || errno ? -1 : 0;
}

static int read_large(const char *path, unsigned int megabytes)
{
	static char block[BLOCK];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return -1;
	for (size_t left = (size_t)megabytes << 20; left && result == 0; left -= BLOCK)
		result = probe_read(fd, block, BLOCK);
	return close(fd) < 0 ? -1 : result;
}

static int create_small(const char *path)
{
	static const char data[SMALL];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int result;

	if (fd < 0)
		return -1;
	result = probe_write(fd, data, sizeof(data));
	return close(fd) < 0 ? -1 : result;
}

static int stat_small(const char *path)
{
	struct stat st;

	return stat(path, &st);
}

static int each(unsigned int count, int (*work)(const char *))
{
	char name[NAME_SIZE];

	for (unsigned int number = 1; number <= count; number++) {
		name_of(name, number);
		if (work(name) < 0)
			return -1;
	}
	return 0;
}

static int large(FILE *out, const char *path, unsigned int megabytes)
{
	double begin = probe_now();

	if (write_large(path, megabytes) < 0)
		return -1;
	fprintf(out, "write %f\n", megabytes / (probe_now() - begin));
	if (forget(path) < 0)
		return -1;
	begin = probe_now();
	if (read_large(path, megabytes) < 0)
		return -1;
	fprintf(out, "read %f\n", megabytes / (probe_now() - begin));
	return unlink(path);
}

int probe_files(FILE *out, const char *folder, unsigned int megabytes, unsigned int count)
{
	static const struct {
		const char *name;
		int (*work)(const char *);
		unsigned int times;
	} steps[] = { { "create", create_small, 1 }, { "stat", stat_small, STATS }, { "unlink", unlink, 1 } };
	char name[NAME_SIZE];

	/* So that names are looked up in the folder only, and not on the way to it. */
	if (chdir(folder) < 0)
		return -1;
	name_of(name, 0);
	if (large(out, name, megabytes) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		double begin = probe_now();

		for (unsigned int n = 0; n < steps[i].times; n++)
			if (each(count, steps[i].work) < 0)
				return -1;
		fprintf(out, "%s %f\n", steps[i].name, steps[i].times * count / (probe_now() - begin));
	}
	return 0;
}
