/* SPDX-License-Identifier: Apache-2.0 */
/* The floor: a PID 1 that sends back what comes in on the agent's port, and does nothing else. */
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

static int write_all(int fd, const char *data, ssize_t len)
{
	for (ssize_t done = 0, n; done < len; done += n) {
		n = write(fd, data + done, (size_t)(len - done));
		if (n <= 0)
			return -1;
	}
	return 0;
}

int main(void)
{
	static char data[65536];
	ssize_t n;
	int fd;

	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	while ((fd = open_port()) < 0)
		usleep(1000);
	for (;;) {
		n = read(fd, data, sizeof(data));
		if (n <= 0 || write_all(fd, data, n) < 0)
			usleep(1000); /* nobody has the port open */
	}
}
