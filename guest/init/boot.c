/* SPDX-License-Identifier: Apache-2.0 */
#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"

#define PLACE "/mnt"
#define SHARE "/run/runv/share"

static const struct {
	const char *type, *target;
	unsigned long flags;
	const char *data;
	bool needed;
} kernel_mounts[] = {
	{ "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, true },
	{ "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, true },
	{ "devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755", true },
	{ "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620", true },
	{ "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", true },
	{ "mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, false },
	{ "tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755", true },
	{ "tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777", true },
	{ "cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, true },
	{ "securityfs", "/sys/kernel/security", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, false },
	{ "bpf", "/sys/fs/bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700", false },
};

static const struct {
	const char *name;
	unsigned int major, minor;
} nodes[] = { { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };

/* The devtmpfs of a developer's machine is not ours to write to. */
static int test_devices(void)
{
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		char path[64];

		snprintf(path, sizeof(path), PLACE "/dev/%s", nodes[i].name);
		if (mknod(path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0)
			return -1;
	}
	return 0;
}

static int mount_all(bool test, struct error *error)
{
	for (size_t i = 0; i < sizeof(kernel_mounts) / sizeof(kernel_mounts[0]); i++) {
		const char *type = kernel_mounts[i].type;
		bool devices = test && strcmp(type, "devtmpfs") == 0;
		char target[64];

		if (devices)
			type = "tmpfs";
		snprintf(target, sizeof(target), PLACE "%s", kernel_mounts[i].target);
		/* What the kernel does not have has no directory in sysfs, which is where making one fails. */
		if (mkdir(target, 0755) < 0 && errno != EEXIST && kernel_mounts[i].needed)
			return error_sys(error, errno, "cannot create %s", kernel_mounts[i].target);
		if (mount(type, target, type, kernel_mounts[i].flags, kernel_mounts[i].data) < 0 && kernel_mounts[i].needed)
			return error_sys(error, errno, "cannot mount %s at %s", type, kernel_mounts[i].target);
		if (devices && test_devices() < 0)
			return error_sys(error, errno, "cannot make the devices");
	}
	return 0;
}

/* Where the host has its share mounted: what is there in a template is not made in each of its clones. */
static int make_share(int tree, struct error *error)
{
	if (mkdir(PLACE "/run/runv", 0755) < 0 || mkdir(PLACE SHARE, 0755) < 0)
		return error_sys(error, errno, "cannot create " SHARE);
	if (tree >= 0 && move_mount(tree, "", AT_FDCWD, PLACE SHARE, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_sys(error, errno, "cannot mount the share of the test");
	return 0;
}

/*
 * The kernel starts init on the initramfs, which is the root of all mounts and has no parent: pivot_root refuses it, and a container would be
 * left with chroot, out of which CAP_SYS_CHROOT leads. So all of the guest lives one mount higher. From there a container's pivot_root works
 * as anywhere else, and what is below is only the initramfs with /init in it, which no path leads to. There is no need to copy /init: PID 1
 * runs from the page cache.
 */
int boot_mounts(bool test, const char *share, struct error *error)
{
	cleanup_close int tree = -1;

	umask(022);
	if (share) {
		tree = open_tree(AT_FDCWD, share, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
		if (tree < 0)
			return error_sys(error, errno, "cannot open %s", share);
	}
	if (mkdir(PLACE, 0755) < 0 && errno != EEXIST)
		return error_sys(error, errno, "cannot create " PLACE);
	if (mount("runv", PLACE, "tmpfs", MS_NOSUID, "mode=0755") < 0)
		return error_sys(error, errno, "cannot mount the root");
	if (mount_all(test, error) < 0 || make_share(tree, error) < 0)
		return -1;
	if (chdir(PLACE) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return error_sys(error, errno, "cannot change to the new root");
	return 0;
}
