/* SPDX-License-Identifier: Apache-2.0 */
#include "scsi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

#define HOSTS "/sys/class/scsi_host"

static int write_attribute(int dir, const char *path, const char *text)
{
	cleanup_close int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

static bool is_virtio(int hosts, const char *name)
{
	static const char kind[] = "virtio_scsi";
	char path[NAME_MAX + 16], text[sizeof(kind)] = "";
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), "%s/proc_name", name);
	fd = openat(hosts, path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, strlen(kind)) == (ssize_t)strlen(kind) && strcmp(text, kind) == 0;
}

void scsi_scan(void)
{
	cleanup_dir DIR *hosts = opendir(HOSTS);
	char path[NAME_MAX + 8];
	struct dirent *entry;

	while (hosts && (entry = readdir(hosts))) {
		if (entry->d_name[0] == '.' || !is_virtio(dirfd(hosts), entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/scan", entry->d_name);
		/* All disks are at one target. A controller that comes up at the moment is scanned by the kernel itself. */
		(void)write_attribute(dirfd(hosts), path, "0 0 -");
	}
}

void scsi_rescan(const char *node)
{
	const char *slash = strrchr(node, '/');
	char path[NAME_MAX + 48];

	snprintf(path, sizeof(path), "/sys/block/%.255s/device/rescan", slash ? slash + 1 : node);
	(void)write_attribute(AT_FDCWD, path, "1");
}

void scsi_hurry(bool hurry)
{
	(void)write_attribute(AT_FDCWD, "/sys/kernel/rcu_expedited", hurry ? "1" : "0");
}

int scsi_forget(const char *name)
{
	char path[NAME_MAX + 48];

	snprintf(path, sizeof(path), SCSI_DEVICES "/%s/device/delete", name);
	return write_attribute(AT_FDCWD, path, "1") < 0 && errno != ENOENT && errno != ENODEV ? -1 : 0;
}
