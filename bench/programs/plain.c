/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The init of a guest that has nothing of runv: it mounts what the kernel's command line names (words the kernel does not know become our environment), or
 * configures the network card, and then does for each line "MEGABYTES COUNT" that comes in on the serial port what a container's probe does. Answers end
 * with an empty line; to an empty line there is nothing else to say.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLACE "/run/data"
#define LAYERS "lowerdir=/run/lower,upperdir=/run/upper/upper,workdir=/run/upper/work,redirect_dir=off,metacopy=off,index=off"
#define TRIES 5000

static const char *word(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

/* A device may come a moment later than we. */
static int mount_soon(const char *source, const char *place, const char *type, unsigned long flags, const char *data)
{
	mkdir(place, 0755);
	for (int i = 0; i < TRIES; i++) {
		if (mount(source, place, type, flags, data) == 0)
			return 0;
		if (errno != ENOENT && errno != ENXIO && errno != ENODEV)
			return -1;
		usleep(1000);
	}
	return -1;
}

/* As runv lays a container's layers over each other (guest/init/storage/layers.c). */
static int mount_layers(void)
{
	if (mount_soon("/dev/sda", "/run/lower", "erofs", MS_RDONLY, NULL) < 0 ||
	    mount_soon("/dev/sdb", "/run/upper", "ext4", MS_NOATIME, "discard") < 0)
		return -1;
	mkdir("/run/upper/upper", 0755);
	mkdir("/run/upper/work", 0755);
	return mount_soon("overlay", PLACE, "overlay", 0, LAYERS);
}

static int set_address(int fd, struct ifreq *request, unsigned long what, const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (inet_pton(AF_INET, address, &in.sin_addr) != 1)
		return -1;
	memcpy(&request->ifr_addr, &in, sizeof(in));
	return ioctl(fd, what, request);
}

static int serve(const char *address)
{
	struct ifreq request = { .ifr_name = "eth0" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || set_address(fd, &request, SIOCSIFADDR, address) < 0 || set_address(fd, &request, SIOCSIFNETMASK, "255.255.255.0") < 0)
		return -1;
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return -1;
	close(fd);
	return fork() ? 0 : probe_serve(7000);
}

static int prepare(void)
{
	const char *type = word("probe_type");

	if (strcmp(type, "net") == 0)
		return serve(word("probe_address"));
	if (strcmp(type, "layers") == 0)
		return mount_layers();
	return mount_soon(word("probe_source"), PLACE, type, 0, word("probe_options"));
}

static FILE *open_port(void)
{
	char path[300];

	for (;;) {
		DIR *dir = opendir("/sys/class/virtio-ports");
		struct dirent *entry;

		while (dir && (entry = readdir(dir))) {
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "/dev/%.255s", entry->d_name);
			closedir(dir);
			return fopen(path, "r+");
		}
		if (dir)
			closedir(dir);
		usleep(1000);
	}
}

int main(void)
{
	unsigned int megabytes, count;
	char line[64];
	FILE *port;
	int failed;

	mount("dev", "/dev", "devtmpfs", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("run", "/run", "tmpfs", 0, NULL);
	failed = prepare() < 0 ? errno : 0;
	port = open_port();
	if (!port)
		return 1;
	while (fgets(line, sizeof(line), port)) {
		if (strcmp(line, "\n") == 0)
			; /* only asked whether we are there */
		else if (failed)
			fprintf(port, "cannot prepare: %s\n", strerror(failed));
		else if (sscanf(line, "%u %u", &megabytes, &count) != 2 || probe_files(port, PLACE, megabytes, count) < 0)
			fprintf(port, "cannot measure: %s\n", strerror(errno));
		fputs("\n", port);
		fflush(port);
	}
	for (;;)
		pause();
}
