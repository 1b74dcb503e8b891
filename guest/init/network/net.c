/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "loop.h"
#include "netlink.h"

enum { APPEAR_MS = 5000 };

bool link_read(const struct nlmsghdr *message, struct link *link)
{
	const struct ifinfomsg *info = NLMSG_DATA(message);
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));
	const unsigned char *mac = NULL, *card = NULL;
	const char *name = NULL;

	if (message->nlmsg_type != RTM_NEWLINK || left < 0 || info->ifi_flags & IFF_LOOPBACK)
		return false;
	for (const struct rtattr *attr = IFLA_RTA(info); RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (attr->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(attr) == MAC_LEN)
			mac = RTA_DATA(attr);
		else if (attr->rta_type == IFLA_PERM_ADDRESS && RTA_PAYLOAD(attr) == MAC_LEN)
			card = RTA_DATA(attr);
		else if (attr->rta_type == IFLA_IFNAME)
			name = RTA_DATA(attr);
	}
	if (!name || !mac)
		return false;
	link->index = info->ifi_index;
	link->up = info->ifi_flags & IFF_UP;
	memcpy(link->mac, mac, MAC_LEN);
	memcpy(link->card, card ? card : mac, MAC_LEN);
	snprintf(link->name, sizeof(link->name), "%s", name);
	return true;
}

static void match_link(const struct nlmsghdr *message, void *arg)
{
	struct link *wanted = arg, link;

	if (link_read(message, &link) && memcmp(link.card, wanted->card, MAC_LEN) == 0)
		*wanted = link;
}

int net_find(const struct net *net, struct link *link)
{
	struct nl_request request;

	link->index = 0;
	nl_begin(&request, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	return nl_dump(net->fd, &request, match_link, link);
}

/* A card that is being plugged in may need a moment; the kernel tells when links come. */
static int await_link(const struct net *net, struct link *link, const char *card, struct error *error)
{
	int64_t deadline = now_ms() + APPEAR_MS;
	char scratch[4096];

	for (;;) {
		struct pollfd events = { .fd = net->events, .events = POLLIN };
		int result = net_find(net, link);
		int64_t left = deadline - now_ms();

		if (result < 0)
			return error_sys(error, -result, "cannot list the network interfaces");
		result = link->index ? 0 : spare_fetch(net, link);
		if (result < 0)
			return error_sys(error, -result, "cannot put the network card with address %s to use", card);
		if (link->index)
			return 0;
		if (left <= 0)
			return error_sys(error, ENODEV, "cannot find the network interface with address %s", card);
		if (poll(&events, 1, (int)left) > 0)
			(void)!recv(net->events, scratch, sizeof(scratch), MSG_DONTWAIT);
	}
}

static struct ifinfomsg *begin_change(struct nl_request *request, int index, unsigned int change, unsigned int flags)
{
	struct ifinfomsg *info = nl_begin(request, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = index;
	info->ifi_change = change;
	info->ifi_flags = flags;
	return info;
}

static int take_down(const struct net *net, int index, const char *new_name)
{
	struct nl_request request;

	begin_change(&request, index, IFF_UP, 0);
	if (new_name)
		nl_attr_str(&request, IFLA_IFNAME, new_name);
	return nl_talk(net->fd, &request);
}

/* A name that another card has for now, and will lose when its turn comes, must not be in the way. */
static int make_room(const struct net *net, const char *name)
{
	unsigned int other = if_nametoindex(name);
	char spare[IF_NAMESIZE];

	if (!other)
		return 0;
	snprintf(spare, sizeof(spare), "runv%u", other);
	return take_down(net, (int)other, spare);
}

static int rename_link(const struct net *net, struct link *link, const char *name, struct error *error)
{
	int result = 0;

	if (strcmp(link->name, name) == 0)
		return 0;
	if (!*name || strlen(name) >= IF_NAMESIZE)
		return error_set(error, KIND_INVALID, "\"%.32s\" is not a name for a network interface", name);
	result = make_room(net, name);
	/* Up, it cannot be renamed. */
	if (result == 0 && link->up)
		result = take_down(net, link->index, NULL);
	if (result == 0)
		result = take_down(net, link->index, name);
	link->up = false;
	return result < 0 ? error_sys(error, -result, "cannot rename network interface %s to %s", link->name, name) : 0;
}

static int change_address(const struct net *net, int index, const char *text, bool add, struct error *error)
{
	struct nl_request request;
	struct address address;
	struct ifaddrmsg *info = nl_begin(&request, add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_REPLACE : 0, sizeof(*info));
	int result;

	if (address_parse(text, &address) < 0)
		return error_set(error, KIND_INVALID, "\"%.64s\" is not an address", text);
	info->ifa_family = (unsigned char)address.family;
	info->ifa_prefixlen = (unsigned char)address.prefix;
	info->ifa_index = (unsigned int)index;
	nl_attr(&request, IFA_LOCAL, address.bytes, address.len);
	nl_attr(&request, IFA_ADDRESS, address.bytes, address.len);
	if (add && address.family == AF_INET && address.prefix < 31) {
		uint32_t broadcast;

		memcpy(&broadcast, address.bytes, sizeof(broadcast));
		broadcast |= htonl(UINT32_MAX >> address.prefix);
		nl_attr(&request, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	}
	/* The host has had this address before, so nobody else has; and a program wants to bind to it at once. */
	if (add && address.family == AF_INET6)
		nl_attr_u32(&request, IFA_FLAGS, IFA_F_NODAD);
	result = nl_talk(net->fd, &request);
	if (result == 0 || (add && result == -EEXIST))
		return 0;
	return error_sys(error, -result, "cannot %s address %s", add ? "add" : "remove", text);
}

static int change_addresses(const struct net *net, const struct node *entry, int index, struct error *error)
{
	struct node list;
	const char *text;

	if (opt_array(entry, "removed_addresses", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_str(&list, i, &text, error) < 0 || change_address(net, index, text, false, error) < 0)
			return -1;
	}
	if (opt_array(entry, "addresses", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_str(&list, i, &text, error) < 0 || change_address(net, index, text, true, error) < 0)
			return -1;
	}
	return 0;
}

static int configure_link(const struct net *net, const struct link *link, const struct node *entry, const unsigned char *mac, struct error *error)
{
	struct nl_request request;
	bool up = true, arp = true;
	int64_t mtu = 0;

	if (opt_int(entry, "mtu", 0, UINT32_MAX, &mtu, error) < 0 || opt_bool(entry, "up", &up, error) < 0 || opt_bool(entry, "arp", &arp, error) < 0)
		return -1;
	/* Up, many a link keeps its address. */
	if (link->up && memcmp(mac, link->mac, MAC_LEN) != 0) {
		int result = take_down(net, link->index, NULL);

		if (result < 0)
			return result;
	}
	begin_change(&request, link->index, IFF_UP | IFF_NOARP, (up ? IFF_UP : 0) | (arp ? 0 : IFF_NOARP));
	if (memcmp(mac, link->mac, MAC_LEN) != 0)
		nl_attr(&request, IFLA_ADDRESS, mac, MAC_LEN);
	if (mtu)
		nl_attr_u32(&request, IFLA_MTU, (uint32_t)mtu);
	return nl_talk(net->fd, &request);
}

static int set_interface(const struct net *net, const struct node *entry, struct error *error)
{
	struct link link = { .index = 0 };
	const char *mac, *card, *name = NULL;
	unsigned char address[MAC_LEN];
	int result;

	if (get_str(entry, "mac", &mac, error) < 0)
		return -1;
	card = mac;
	if (opt_str(entry, "card", &card, error) < 0 || opt_str(entry, "name", &name, error) < 0)
		return -1;
	if (mac_parse(mac, address) < 0)
		return node_fail(entry, "mac", error, "is not a link address");
	if (mac_parse(card, link.card) < 0)
		return node_fail(entry, "card", error, "is not a link address");
	if (await_link(net, &link, card, error) < 0 || (name && rename_link(net, &link, name, error) < 0))
		return -1;
	/* Addresses of IPv6 go with a link that goes down, and those of an interface that is down are kept as they are. */
	result = configure_link(net, &link, entry, address, error);
	if (result < 0)
		return error_sys(error, -result, "cannot configure network interface %s", name ? name : link.name);
	return change_addresses(net, entry, link.index, error);
}

int net_each(const struct net *net, const struct node *args, const char *member, net_entry_fn *fn, struct error *error)
{
	struct node list, entry;

	if (opt_array(args, member, &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &entry, error) < 0 || fn(net, &entry, error) < 0)
			return -1;
	}
	return 0;
}

static int bring_up_loopback(struct error *error)
{
	cleanup_close int fd = nl_open(0);
	struct nl_request request;
	int result = fd;

	begin_change(&request, (int)if_nametoindex("lo"), IFF_UP, IFF_UP);
	if (fd >= 0)
		result = nl_talk(fd, &request);
	return result < 0 ? error_sys(error, -result, "cannot bring up the loopback interface") : 0;
}

/* Before there is a template of this guest: half of what a setup without interfaces would take is spent here. */
int net_boot(struct error *error)
{
	return bring_up_loopback(error) < 0 ? -1 : spare_put_away(error);
}

int net_setup(const struct node *args, struct error *error)
{
	cleanup_close int fd = -1, events = -1;
	bool put_away = false;
	struct net net;

	if (opt_bool(args, "put_away", &put_away, error) < 0 || (put_away && spare_put_away(error) < 0))
		return -1;
	if (!has_member(args, "interfaces") && !has_member(args, "routes") && !has_member(args, "rules") && !has_member(args, "neighbours"))
		return 0;
	net.fd = fd = nl_open(0);
	net.events = events = nl_open(RTMGRP_LINK);
	if (fd < 0 || events < 0)
		return error_sys(error, fd < 0 ? -fd : -events, "cannot open a netlink socket");
	if (net_each(&net, args, "interfaces", set_interface, error) < 0)
		return -1;
	return net_routes(&net, args, error);
}
