/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cards that wait for a link that may never come. Until it does they have no driver, hence no interface that a container could see, no queues and no
 * buffers. Another network namespace would hide them too, but a card leaves one only when RCU's callbacks have run, which takes tens of milliseconds.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "net.h"
#include "netlink.h"

#define BUS "/sys/bus/virtio"
/* What a device of this bus tells of itself: virtio's number for a network card */
#define NETWORK_CARD "0x0001\n"

enum { CARDS_MAX = 16, NUMBER_SPARE = 0x80 };

struct cards {
	size_t count;
	char name[CARDS_MAX][IF_NAMESIZE];
};

/* The host makes cards with an address of ours and a number, */
static bool is_ours(const struct link *link)
{
	static const unsigned char ours[MAC_LEN - 1] = { 0x0a, 0x72, 0x75, 0x6e, 0x76 };

	return memcmp(link->card, ours, sizeof(ours)) == 0;
}

/* which is 128 or more for one that nobody has yet. */
static bool is_spare(const struct link *link)
{
	return is_ours(link) && link->card[MAC_LEN - 1] & NUMBER_SPARE;
}

static void collect(const struct nlmsghdr *message, void *arg)
{
	struct cards *cards = arg;
	struct link link;

	if (cards->count < CARDS_MAX && link_read(message, &link) && is_spare(&link))
		memcpy(cards->name[cards->count++], link.name, IF_NAMESIZE);
}

static int tell_driver(const char *file, const char *device)
{
	cleanup_close int fd = open(file, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, device, strlen(device)) < 0 ? -errno : 0;
}

int spare_unbind(const char *link)
{
	char path[PATH_MAX], device[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/class/net/%s/device", link);
	return realpath(path, device) ? tell_driver(BUS "/drivers/virtio_net/unbind", basename(device)) : -errno;
}

int spare_put_away(struct error *error)
{
	cleanup_close int net = nl_open(0);
	struct cards cards = { .count = 0 };
	struct nl_request request;
	int result = net;

	nl_begin(&request, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	if (result >= 0)
		result = nl_dump(net, &request, collect, &cards);
	for (size_t i = 0; i < cards.count && result == 0; i++)
		result = spare_unbind(cards.name[i]);
	return result < 0 ? error_sys(error, -result, "cannot put a network card away") : 0;
}

static bool waits(const char *device)
{
	char path[PATH_MAX], text[sizeof(NETWORK_CARD)] = "";
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), BUS "/devices/%s/driver", device);
	if (*device == '.' || access(path, F_OK) == 0)
		return false;
	snprintf(path, sizeof(path), BUS "/devices/%s/device", device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strcmp(text, NETWORK_CARD) == 0;
}

int spare_fetch(const struct net *net, struct link *link)
{
	cleanup_dir DIR *devices = NULL;
	struct dirent *entry;
	int result = 0;

	if (!is_ours(link))
		return 0;
	devices = opendir(BUS "/devices");
	if (!devices)
		return -errno;
	while (result == 0 && !link->index && (entry = readdir(devices))) {
		if (!waits(entry->d_name))
			continue;
		/* Its interface is there when the kernel has taken this. */
		result = tell_driver(BUS "/drivers/virtio_net/bind", entry->d_name);
		if (result == 0)
			result = net_find(net, link);
	}
	return result;
}
