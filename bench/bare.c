/* SPDX-License-Identifier: Apache-2.0 */
/* The floor: a PID 1 that answers each byte on the agent's port with the same byte, and does nothing else. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

static int open_port(void)
{
	char path[300];
	struct dirent *entry;
	DIR *dir = opendir("/sys/class/virtio-ports");

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/%.255s", entry->d_name);
		closedir(dir);
		return open(path, O_RDWR);
	}
	if (dir)
		closedir(dir);
	return -1;
}

int main(void)
{
	char byte;
	int fd;

	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	while ((fd = open_port()) < 0)
		usleep(1000);
	for (;;) {
		if (read(fd, &byte, 1) != 1 || write(fd, &byte, 1) != 1)
			usleep(1000); /* nobody has the port open */
	}
}
