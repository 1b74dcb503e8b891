/* SPDX-License-Identifier: Apache-2.0 */
/* The links the guest has now, and taking one's card out. */
#include <arpa/inet.h>
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

#define PCI "/sys/bus/pci"

static void set_mac(json_t *entry, const char *member, const struct rtattr *attr)
{
	char text[MAC_TEXT_MAX];

	if (RTA_PAYLOAD(attr) != MAC_LEN)
		return;
	mac_format(RTA_DATA(attr), text);
	json_object_set_new(entry, member, json_string(text));
}

static void list_link(const struct nlmsghdr *message, void *arg)
{
	json_t *list = arg, *entry;
	const struct ifinfomsg *info = NLMSG_DATA(message);
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));

	if (message->nlmsg_type != RTM_NEWLINK || left < 0 || info->ifi_flags & IFF_LOOPBACK)
		return;
	entry = json_pack("{s:i, s:b, s:[]}", "index", info->ifi_index, "up", (info->ifi_flags & IFF_UP) != 0, "addresses");
	for (const struct rtattr *attr = IFLA_RTA(info); RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (attr->rta_type == IFLA_ADDRESS)
			set_mac(entry, "mac", attr);
		else if (attr->rta_type == IFLA_PERM_ADDRESS)
			set_mac(entry, "card", attr);
		else if (attr->rta_type == IFLA_IFNAME)
			json_object_set_new(entry, "name", json_string(RTA_DATA(attr)));
		else if (attr->rta_type == IFLA_MTU && RTA_PAYLOAD(attr) == sizeof(uint32_t))
			json_object_set_new(entry, "mtu", json_integer(*(const uint32_t *)RTA_DATA(attr)));
	}
	json_array_append_new(list, entry);
}

static json_t *entry_of(json_t *list, unsigned int index)
{
	json_t *entry;
	size_t i;

	json_array_foreach(list, i, entry) {
		if (json_integer_value(json_object_get(entry, "index")) == index)
			return entry;
	}
	return NULL;
}

static void list_address(const struct nlmsghdr *message, void *arg)
{
	const struct ifaddrmsg *info = NLMSG_DATA(message);
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));
	char text[INET6_ADDRSTRLEN], whole[ADDRESS_TEXT_MAX + 1];
	const void *address = NULL;
	json_t *entry;
	size_t len;

	if (message->nlmsg_type != RTM_NEWADDR || left < 0)
		return;
	entry = entry_of(arg, info->ifa_index);
	len = info->ifa_family == AF_INET6 ? sizeof(struct in6_addr) : sizeof(struct in_addr);
	for (const struct rtattr *attr = IFA_RTA(info); RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		/* On a link with a peer the one is ours and the other the peer's. */
		if (RTA_PAYLOAD(attr) == len && (attr->rta_type == IFA_LOCAL || (attr->rta_type == IFA_ADDRESS && !address)))
			address = RTA_DATA(attr);
	}
	if (!entry || !address || !inet_ntop(info->ifa_family, address, text, sizeof(text)))
		return;
	snprintf(whole, sizeof(whole), "%s/%u", text, info->ifa_prefixlen);
	json_array_append_new(json_object_get(entry, "addresses"), json_string(whole));
}

int net_list(const struct node *args, json_t **result, struct error *error)
{
	cleanup_close int fd = nl_open(0);
	cleanup_json json_t *list = json_array();
	struct nl_request request;
	int failed;

	(void)args;
	if (fd < 0)
		return error_sys(error, -fd, "cannot open a netlink socket");
	nl_begin(&request, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	failed = nl_dump(fd, &request, list_link, list);
	if (failed == 0) {
		nl_begin(&request, RTM_GETADDR, 0, sizeof(struct ifaddrmsg));
		failed = nl_dump(fd, &request, list_address, list);
	}
	if (failed < 0)
		return error_sys(error, -failed, "cannot list the network interfaces");
	*result = json_pack("{s:O}", "interfaces", list);
	return 0;
}

/* "0000:01:00.0" of a link's card; -1: the link is of no card. */
static int pci_address(const char *link, char address[NAME_MAX + 1])
{
	char path[PATH_MAX], target[PATH_MAX];

	/* device is the virtio device; the card is what that is on. */
	snprintf(path, sizeof(path), "/sys/class/net/%s/device/..", link);
	if (!realpath(path, target))
		return -1;
	snprintf(address, NAME_MAX + 1, "%s", basename(target));
	return strchr(address, ':') && strchr(address, '.') ? 0 : -1;
}

static int write_file(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static bool slot_has(const char *slot, const char *address)
{
	char path[PATH_MAX], text[32] = "";
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), PCI "/slots/%s/address", slot);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	/* The slot's is without the function. */
	return *text && strncmp(address, text, strlen(text)) == 0 && address[strlen(text)] == '.';
}

/* A slot without power gives its card to the host at once; asked by the host, the kernel lets five seconds pass for a human to object. */
static int power_off_slot(const char *address)
{
	cleanup_dir DIR *slots = opendir(PCI "/slots");
	char path[PATH_MAX];

	for (struct dirent *entry = slots ? readdir(slots) : NULL; entry; entry = readdir(slots)) {
		if (*entry->d_name == '.' || !slot_has(entry->d_name, address))
			continue;
		snprintf(path, sizeof(path), PCI "/slots/%s/power", entry->d_name);
		return write_file(path, "0");
	}
	snprintf(path, sizeof(path), PCI "/devices/%s/remove", address);
	return write_file(path, "1");
}

int net_unplug(const struct node *args, json_t **result, struct error *error)
{
	cleanup_close int fd = nl_open(0);
	struct net net = { .fd = fd, .events = -1 };
	struct link link = { .index = 0 };
	char address[NAME_MAX + 1];
	const char *card;
	bool keep = false;
	int failed;

	(void)result;
	if (get_str(args, "card", &card, error) < 0 || opt_bool(args, "keep", &keep, error) < 0)
		return -1;
	if (mac_parse(card, link.card) < 0)
		return node_fail(args, "card", error, "is not a link address");
	failed = fd < 0 ? fd : net_find(&net, &link);
	if (failed < 0)
		return error_sys(error, -failed, "cannot list the network interfaces");
	if (!link.index || pci_address(link.name, address) < 0)
		return error_set(error, KIND_NOT_FOUND, "there is no network card with address %s", card);
	failed = keep ? spare_unbind(link.name) : power_off_slot(address);
	return failed < 0 ? error_sys(error, -failed, "cannot unplug network interface %s", link.name) : 0;
}
