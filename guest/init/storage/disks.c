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
#include "scsi.h"

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

#define BLOCKS "/sys/block"

/* What is looked for: its serial, and, once it is found, its name in the folder. */
struct wanted {
	const char *serial;
	char name[NAME_MAX + 1];
};

/* The serial of a device: a virtio disk has an attribute for it, a SCSI disk a page of its own. */
static bool read_serial(int folder, const char *name, char serial[SERIAL_MAX + 1])
{
	char path[NAME_MAX + 32], text[ATTRIBUTE_MAX];
	size_t skip = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/serial", name);
	n = read_attribute(folder, path, text, sizeof(text));
	if (n < 0) {
		skip = VPD_HEADER;
		snprintf(path, sizeof(path), "%s/device/vpd_pg80", name);
		n = read_attribute(folder, path, text, sizeof(text));
	}
	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\n' || text[n - 1] == '\0'))
		n--;
	if (n <= (ssize_t)skip || (size_t)n - skip > SERIAL_MAX)
		return false;
	memcpy(serial, text + skip, (size_t)n - skip);
	serial[(size_t)n - skip] = '\0';
	return true;
}

/* Looks at each device once, for all that are still missing. How many still are; -1: nothing can be said. */
static int look_around(const char *folder, struct wanted *wanted, size_t count, struct error *error)
{
	cleanup_dir DIR *dir = opendir(folder);
	char serial[SERIAL_MAX + 1];
	struct dirent *entry;
	int missing = 0;

	if (!dir)
		return error_sys(error, errno, "cannot open %s", folder);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !read_serial(dirfd(dir), entry->d_name, serial))
			continue;
		for (size_t i = 0; i < count; i++) {
			if (!wanted[i].name[0] && strcmp(wanted[i].serial, serial) == 0)
				strcpy(wanted[i].name, entry->d_name);
		}
	}
	for (size_t i = 0; i < count; i++)
		missing += !wanted[i].name[0];
	return missing;
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

static json_t *describe(const struct wanted *disk, struct error *error)
{
	char node[NAME_MAX + 8], path[NAME_MAX + 32], text[ATTRIBUTE_MAX];
	unsigned int major, minor;

	snprintf(path, sizeof(path), BLOCKS "/%s/dev", disk->name);
	if (!disk->name[0] || read_attribute(AT_FDCWD, path, text, sizeof(text)) < 0 || sscanf(text, "%u:%u", &major, &minor) != 2) {
		error_sys(error, ENODEV, "cannot find disk %s in the guest", disk->serial);
		return NULL;
	}
	snprintf(node, sizeof(node), "/dev/%s", disk->name);
	return json_pack("{s:s, s:I, s:I, s:s}", "node", node, "major", (json_int_t)major, "minor", (json_int_t)minor, "fstype", probe(node));
}

/* The request's serials; NULL: they are wrong. */
static struct wanted *read_wanted(const struct node *args, size_t *count, struct error *error)
{
	cleanup_free struct wanted *wanted = NULL;
	struct wanted *result;
	struct node list;

	if (opt_array(args, "disks", &list, error) < 0)
		return NULL;
	*count = array_len(&list);
	if (*count > DISKS_MAX) {
		node_fail(args, "disks", error, "has too many entries");
		return NULL;
	}
	wanted = calloc(*count + 1, sizeof(*wanted));
	if (!wanted) {
		error_sys(error, ENOMEM, "cannot look for disks");
		return NULL;
	}
	for (size_t i = 0; i < *count; i++) {
		if (array_str(&list, i, &wanted[i].serial, error) < 0)
			return NULL;
		if (!wanted[i].serial[0] || strlen(wanted[i].serial) > SERIAL_MAX) {
			node_fail(&list, NULL, error, "must hold serials of 1 to 36 bytes");
			return NULL;
		}
	}
	result = wanted;
	wanted = NULL;
	return result;
}

static int find_disks(const struct node *args, json_t *out, struct error *error)
{
	const struct timespec pause = { .tv_nsec = POLL_MS * 1000000 };
	cleanup_free struct wanted *wanted = NULL;
	int64_t deadline = now() + WAIT_MS;
	size_t count;
	int missing;

	wanted = read_wanted(args, &count, error);
	if (!wanted)
		return -1;
	while ((missing = count ? look_around(BLOCKS, wanted, count, error) : 0) > 0 && now() < deadline) {
		scsi_scan();
		nanosleep(&pause, NULL);
	}
	if (missing < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		json_t *disk = describe(&wanted[i], error);

		if (!disk)
			return -1;
		json_object_set_new(out, wanted[i].serial, disk);
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

static int forget(const struct wanted *wanted, size_t count, struct error *error)
{
	int result = 0;

	scsi_hurry(true);
	for (size_t i = 0; i < count && result == 0; i++) {
		if (wanted[i].name[0] && scsi_forget(wanted[i].name) < 0)
			result = error_sys(error, errno, "cannot let go of disk %s", wanted[i].serial);
	}
	scsi_hurry(false);
	return result;
}

int disks_release(const struct node *args, json_t **result, struct error *error)
{
	cleanup_free struct wanted *wanted = NULL;
	size_t count;
	int missing;

	(void)result;
	wanted = read_wanted(args, &count, error);
	/* With no SCSI in the machine yet there is nothing to let go of. */
	if (!wanted || access(SCSI_DEVICES, F_OK) < 0)
		return wanted ? 0 : -1;
	missing = look_around(SCSI_DEVICES, wanted, count, error);
	if (missing > 0) {
		/* Whoever gave up while they came: the kernel is to have seen them before they go. */
		scsi_scan();
		missing = look_around(SCSI_DEVICES, wanted, count, error);
	}
	if (missing < 0)
		return -1;
	return forget(wanted, count, error);
}
