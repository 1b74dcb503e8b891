/* SPDX-License-Identifier: Apache-2.0 */
#include "disks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

enum {
	WAIT_MS = 10000,
	POLL_MS = 10,
	DISKS_MAX = 256,
	SERIAL_MAX = 36,   /* QEMU's own limit for a SCSI disk */
	VPD_HEADER = 4,    /* of SCSI's page 0x80, before the serial */
	ATTRIBUTE_MAX = 1024,
};

/* What the guest's kernel can mount, and what people try. */
static const struct {
	const char *type;
	off_t offset;
	size_t len;
	const char *magic;
} file_systems[] = {
	{ "ext4", 1080, 2, "\x53\xef" },      { "xfs", 0, 4, "XFSB" },
	{ "erofs", 1024, 4, "\xe2\xe1\xf5\xe0" }, { "squashfs", 0, 4, "hsqs" },
	{ "btrfs", 65600, 8, "_BHRfS_M" },
};

/* The whole attribute, with a zero byte behind it; -1: there is none. */
static ssize_t read_attribute(int dir, const char *path, char *text, size_t size)
{
	cleanup_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;

	if (n >= 0)
		text[n] = '\0';
	return n;
}

static bool same_serial(const char *found, size_t len, const char *serial)
{
	while (len > 0 && (found[len - 1] == ' ' || found[len - 1] == '\n' || found[len - 1] == '\0'))
		len--;
	return len == strlen(serial) && memcmp(found, serial, len) == 0;
}

/* A virtio disk has an attribute for it, a SCSI disk a page of its own. */
static bool has_serial(int blocks, const char *name, const char *serial)
{
	char path[NAME_MAX + 32], text[ATTRIBUTE_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/serial", name);
	n = read_attribute(blocks, path, text, sizeof(text));
	if (n >= 0)
		return same_serial(text, (size_t)n, serial);
	snprintf(path, sizeof(path), "%s/device/vpd_pg80", name);
	n = read_attribute(blocks, path, text, sizeof(text));
	return n > VPD_HEADER && same_serial(text + VPD_HEADER, (size_t)n - VPD_HEADER, serial);
}

/* 1: name is the disk's. 0: it is not there. -1: nothing can be said. */
static int look_for(const char *serial, char name[NAME_MAX + 1], struct error *error)
{
	cleanup_dir DIR *blocks = opendir("/sys/block");
	struct dirent *entry;

	if (!blocks)
		return error_sys(error, errno, "cannot open /sys/block");
	while ((entry = readdir(blocks))) {
		if (entry->d_name[0] != '.' && has_serial(dirfd(blocks), entry->d_name, serial)) {
			strcpy(name, entry->d_name);
			return 1;
		}
	}
	return 0;
}

static const char *probe(const char *node)
{
	cleanup_close int fd = open(node, O_RDONLY | O_CLOEXEC);
	char found[8];

	for (size_t i = 0; fd >= 0 && i < sizeof(file_systems) / sizeof(file_systems[0]); i++) {
		size_t len = file_systems[i].len;

		if (pread(fd, found, len, file_systems[i].offset) == (ssize_t)len && memcmp(found, file_systems[i].magic, len) == 0)
			return file_systems[i].type;
	}
	return "";
}

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static json_t *find_disk(const char *serial, int64_t deadline, struct error *error)
{
	const struct timespec pause = { .tv_nsec = POLL_MS * 1000000 };
	char name[NAME_MAX + 1], node[NAME_MAX + 8], path[NAME_MAX + 32], text[ATTRIBUTE_MAX];
	unsigned int major, minor;
	int found;

	while ((found = look_for(serial, name, error)) == 0 && now() < deadline)
		nanosleep(&pause, NULL);
	if (found < 0)
		return NULL;
	snprintf(path, sizeof(path), "/sys/block/%s/dev", found ? name : "");
	if (!found || read_attribute(AT_FDCWD, path, text, sizeof(text)) < 0 || sscanf(text, "%u:%u", &major, &minor) != 2) {
		error_sys(error, ENODEV, "cannot find disk %s in the guest", serial);
		return NULL;
	}
	snprintf(node, sizeof(node), "/dev/%s", name);
	return json_pack("{s:s, s:I, s:I, s:s}", "node", node, "major", (json_int_t)major, "minor", (json_int_t)minor, "fstype", probe(node));
}

static int find_disks(const struct node *args, json_t *out, struct error *error)
{
	int64_t deadline = now() + WAIT_MS;
	struct node list;

	if (opt_array(args, "disks", &list, error) < 0)
		return -1;
	if (array_len(&list) > DISKS_MAX)
		return node_fail(args, "disks", error, "has too many entries");
	for (size_t i = 0; i < array_len(&list); i++) {
		const char *serial;
		json_t *disk;

		if (array_str(&list, i, &serial, error) < 0)
			return -1;
		if (!*serial || strlen(serial) > SERIAL_MAX)
			return node_fail(&list, NULL, error, "must hold serials of 1 to 36 bytes");
		disk = find_disk(serial, deadline, error);
		if (!disk)
			return -1;
		json_object_set_new(out, serial, disk);
	}
	return 0;
}

/* The agent's own port is nobody else's. */
static bool is_private(const char *name)
{
	return strncmp(name, "vport", 5) == 0;
}

static void add_character(int dir, const char *numbers, json_t *out)
{
	char path[NAME_MAX + 16], text[ATTRIBUTE_MAX], *name;
	unsigned int major, minor;

	snprintf(path, sizeof(path), "%s/uevent", numbers);
	if (read_attribute(dir, path, text, sizeof(text)) < 0 || sscanf(numbers, "%u:%u", &major, &minor) != 2)
		return;
	name = strstr(text, "DEVNAME=");
	if (!name)
		return;
	name += strlen("DEVNAME=");
	name[strcspn(name, "\n")] = '\0';
	if (!is_private(name))
		json_object_set_new(out, name, json_pack("[I, I]", (json_int_t)major, (json_int_t)minor));
}

static int list_characters(json_t *out, struct error *error)
{
	cleanup_dir DIR *dir = opendir("/sys/dev/char");
	struct dirent *entry;

	if (!dir)
		return error_sys(error, errno, "cannot open /sys/dev/char");
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			add_character(dirfd(dir), entry->d_name, out);
	}
	return 0;
}

int disks_find(const struct node *args, json_t **result, struct error *error)
{
	json_t *disks = json_object(), *characters = json_object();
	bool wants_characters = false;

	*result = json_pack("{s:o, s:o}", "disks", disks, "characters", characters);
	if (opt_bool(args, "characters", &wants_characters, error) < 0 || find_disks(args, disks, error) < 0)
		return -1;
	return wants_characters ? list_characters(characters, error) : 0;
}
