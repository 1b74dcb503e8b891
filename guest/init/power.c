/* SPDX-License-Identifier: Apache-2.0 */
#include "power.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "cleanup.h"

enum { SYNC_MS = 5000, ANSWER_MS = 10, MOUNTS_MAX = 256 };

static void reboot_now(struct loop *loop, struct timer *timer)
{
	(void)loop;
	(void)timer;
	/*
	 * Without ACPI, as on microvm, Linux cannot power off and would halt for ever. QEMU runs with -no-reboot and ends on a reset. In a pid
	 * namespace of the tests the kernel takes a power off for the end of the namespace.
	 */
	if (getpid() == 1 && access("/sys/firmware/acpi/tables", F_OK) < 0 && errno == ENOENT)
		reboot(RB_AUTOBOOT);
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
}

/* What disks hold must be unmounted to be clean; what is only memory, or the kernel's own, goes by itself. */
static bool on_disk(const char *source)
{
	return strncmp(source, "/dev/", 5) == 0;
}

static void unmount_disks(void)
{
	char *targets[MOUNTS_MAX], line[4096], source[1024], target[1024];
	cleanup_file FILE *mounts = fopen("/proc/self/mounts", "re");
	size_t count = 0;

	while (mounts && count < MOUNTS_MAX && fgets(line, sizeof(line), mounts)) {
		if (sscanf(line, "%1023s %1023s", source, target) == 2 && on_disk(source) && (targets[count] = strdup(target)))
			count++;
	}
	/* The last mounted first */
	while (count > 0) {
		count--;
		if (umount2(targets[count], 0) < 0)
			umount2(targets[count], MNT_DETACH);
		free(targets[count]);
	}
}

/* In a process of its own: the server of a share may not answer any more. */
static _Noreturn void write_back(void)
{
	sync();
	unmount_disks();
	sync();
	_exit(0);
}

static void begin(struct loop *loop, struct timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, power_timer);

	kill(-1, SIGKILL);
	agent->power_child = fork();
	if (agent->power_child == 0)
		write_back();
	loop_arm(loop, timer, agent->power_child > 0 ? SYNC_MS : 1, reboot_now);
}

void power_off(struct agent *agent)
{
	if (agent->powering_off)
		return;
	agent->powering_off = true;
	/* The answer to who asked for it should still get out. */
	loop_arm(&agent->loop, &agent->power_timer, ANSWER_MS, begin);
}

void power_child_ended(struct agent *agent, pid_t pid)
{
	if (agent->power_child > 0 && pid == agent->power_child)
		loop_arm(&agent->loop, &agent->power_timer, 1, reboot_now);
}
