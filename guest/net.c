/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's network: the guest's only network namespace gets what the host found in the one it was given. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "loop.h"
#include "netlink.h"
#include "setup.h"

enum { MAC_LEN = 6, APPEAR_MS = 5000 };

struct net {
	int fd;     /* requests */
	int events; /* links that come */
};

struct address {
	int family;
	unsigned char bytes[sizeof(struct in6_addr)];
	size_t len;
	unsigned int prefix;
};

/* "10.0.0.2/24" or, where a prefix need not be, "10.0.0.2" */
static int parse_address(const char *text, struct address *address)
{
	char copy[INET6_ADDRSTRLEN + 5], *slash, *end;
	unsigned long prefix;

	memset(address, 0, sizeof(*address));
	if (strlen(text) >= sizeof(copy))
		return -1;
	strcpy(copy, text);
	slash = strchr(copy, '/');
	if (slash)
		*slash++ = '\0';
	address->family = strchr(copy, ':') ? AF_INET6 : AF_INET;
	address->len = address->family == AF_INET6 ? sizeof(struct in6_addr) : sizeof(struct in_addr);
	address->prefix = (unsigned int)address->len * 8;
	if (inet_pton(address->family, copy, address->bytes) != 1)
		return -1;
	if (!slash)
		return 0;
	if (*slash < '0' || *slash > '9')
		return -1;
	prefix = strtoul(slash, &end, 10);
	if (*end || prefix > address->prefix)
		return -1;
	address->prefix = (unsigned int)prefix;
	return 0;
}

static int parse_mac(const char *text, unsigned char mac[MAC_LEN])
{
	unsigned int part[MAC_LEN];
	int used = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &part[0], &part[1], &part[2], &part[3], &part[4], &part[5], &used) != MAC_LEN ||
	    text[used] != '\0')
		return -1;
	for (int i = 0; i < MAC_LEN; i++)
		mac[i] = (unsigned char)part[i];
	return 0;
}

struct search {
	unsigned char mac[MAC_LEN];
	int index; /* 0: not there */
	bool up;
	char name[IF_NAMESIZE];
};

static void match_link(const struct nlmsghdr *message, void *arg)
{
	struct search *search = arg;
	const struct ifinfomsg *info = NLMSG_DATA(message);
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));
	const char *name = NULL;
	bool match = false;

	if (message->nlmsg_type != RTM_NEWLINK || left < 0)
		return;
	for (const struct rtattr *attr = IFLA_RTA(info); RTA_OK(attr, left); attr = RTA_NEXT(attr, left)) {
		if (attr->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(attr) == MAC_LEN)
			match = memcmp(RTA_DATA(attr), search->mac, MAC_LEN) == 0;
		else if (attr->rta_type == IFLA_IFNAME)
			name = RTA_DATA(attr);
	}
	if (!match || !name || info->ifi_flags & IFF_LOOPBACK)
		return;
	search->index = info->ifi_index;
	search->up = info->ifi_flags & IFF_UP;
	snprintf(search->name, sizeof(search->name), "%s", name);
}

static int find_link(const struct net *net, struct search *search)
{
	struct nl_request request;

	search->index = 0;
	nl_begin(&request, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	return nl_dump(net->fd, &request, match_link, search);
}

/* A card that is being plugged in may need a moment; the kernel tells when links come. */
static int await_link(const struct net *net, struct search *search, const char *mac, struct error *error)
{
	int64_t deadline = now_ms() + APPEAR_MS;
	char scratch[4096];

	for (;;) {
		struct pollfd events = { .fd = net->events, .events = POLLIN };
		int result = find_link(net, search);
		int64_t left = deadline - now_ms();

		if (result < 0)
			return error_sys(error, -result, "cannot list the network interfaces");
		if (search->index)
			return 0;
		if (left <= 0)
			return error_sys(error, ENODEV, "cannot find the network interface with address %s", mac);
		if (poll(&events, 1, (int)left) > 0)
			(void)!recv(net->events, scratch, sizeof(scratch), MSG_DONTWAIT);
	}
}

static int change_link(const struct net *net, int index, unsigned int flags, const char *name, uint32_t mtu)
{
	struct nl_request request;
	struct ifinfomsg *info = nl_begin(&request, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = index;
	info->ifi_flags = flags;
	info->ifi_change = IFF_UP;
	if (name)
		nl_attr_str(&request, IFLA_IFNAME, name);
	if (mtu)
		nl_attr_u32(&request, IFLA_MTU, mtu);
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
	return change_link(net, (int)other, 0, spare, 0);
}

static int rename_link(const struct net *net, struct search *link, const char *name, struct error *error)
{
	int result = 0;

	if (strcmp(link->name, name) == 0)
		return 0;
	if (!*name || strlen(name) >= IF_NAMESIZE)
		return error_set(error, KIND_INVALID, "\"%.32s\" is not a name for a network interface", name);
	result = make_room(net, name);
	/* Up, it cannot be renamed. */
	if (result == 0 && link->up)
		result = change_link(net, link->index, 0, NULL, 0);
	if (result == 0)
		result = change_link(net, link->index, 0, name, 0);
	link->up = false;
	return result < 0 ? error_sys(error, -result, "cannot rename network interface %s to %s", link->name, name) : 0;
}

/* Up, a card keeps its address. */
static int set_mac(const struct net *net, struct search *link, const struct node *entry, struct error *error)
{
	struct nl_request request;
	struct ifinfomsg *info;
	unsigned char mac[MAC_LEN];
	const char *text = "";
	int result = 0;

	if (opt_str(entry, "new_mac", &text, error) < 0)
		return -1;
	if (!*text)
		return 0;
	if (parse_mac(text, mac) < 0)
		return node_fail(entry, "new_mac", error, "is not a link address");
	if (link->up)
		result = change_link(net, link->index, 0, NULL, 0);
	link->up = false;
	info = nl_begin(&request, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = link->index;
	nl_attr(&request, IFLA_ADDRESS, mac, sizeof(mac));
	if (result == 0)
		result = nl_talk(net->fd, &request);
	return result < 0 ? error_sys(error, -result, "cannot give network interface %s the address %s", link->name, text) : 0;
}

static int add_address(const struct net *net, int index, const char *text, struct error *error)
{
	struct nl_request request;
	struct address address;
	struct ifaddrmsg *info = nl_begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	int result;

	if (parse_address(text, &address) < 0)
		return error_set(error, KIND_INVALID, "\"%.64s\" is not an address", text);
	info->ifa_family = (unsigned char)address.family;
	info->ifa_prefixlen = (unsigned char)address.prefix;
	info->ifa_index = (unsigned int)index;
	nl_attr(&request, IFA_LOCAL, address.bytes, address.len);
	nl_attr(&request, IFA_ADDRESS, address.bytes, address.len);
	if (address.family == AF_INET && address.prefix < 31) {
		uint32_t broadcast;

		memcpy(&broadcast, address.bytes, sizeof(broadcast));
		broadcast |= htonl(UINT32_MAX >> address.prefix);
		nl_attr(&request, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	}
	/* The host has had this address before, so nobody else has; and a program wants to bind to it at once. */
	if (address.family == AF_INET6)
		nl_attr_u32(&request, IFA_FLAGS, IFA_F_NODAD);
	result = nl_talk(net->fd, &request);
	return result < 0 && result != -EEXIST ? error_sys(error, -result, "cannot add address %s", text) : 0;
}

static int add_addresses(const struct net *net, const struct node *entry, int index, struct error *error)
{
	struct node list;
	const char *text;

	if (opt_array(entry, "addresses", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_str(&list, i, &text, error) < 0 || add_address(net, index, text, error) < 0)
			return -1;
	}
	return 0;
}

static int set_interface(const struct net *net, const struct node *entry, struct error *error)
{
	struct search link = { .index = 0 };
	const char *mac, *name = NULL;
	int64_t mtu = 0;
	bool up = true;
	int result;

	if (get_str(entry, "mac", &mac, error) < 0 || opt_str(entry, "name", &name, error) < 0 ||
	    opt_int(entry, "mtu", 0, UINT32_MAX, &mtu, error) < 0 || opt_bool(entry, "up", &up, error) < 0)
		return -1;
	if (parse_mac(mac, link.mac) < 0)
		return node_fail(entry, "mac", error, "is not a link address");
	if (await_link(net, &link, mac, error) < 0 || set_mac(net, &link, entry, error) < 0 || (name && rename_link(net, &link, name, error) < 0))
		return -1;
	/* Addresses of IPv6 go with a link that goes down, and those of an interface that is down are kept as they are. */
	result = change_link(net, link.index, up ? IFF_UP : 0, NULL, (uint32_t)mtu);
	if (result < 0)
		return error_sys(error, -result, "cannot configure network interface %s", name ? name : link.name);
	return add_addresses(net, entry, link.index, error);
}

struct route {
	struct address destination, gateway, source;
	bool has_gateway, has_source, onlink;
	unsigned int index;
	int64_t scope, metric;
};

static int parse_route(const struct node *entry, struct route *route, struct error *error)
{
	const char *destination, *interface = "", *gateway = "", *source = "";

	memset(route, 0, sizeof(*route));
	if (get_str(entry, "destination", &destination, error) < 0 || opt_str(entry, "interface", &interface, error) < 0 ||
	    opt_str(entry, "gateway", &gateway, error) < 0 || opt_str(entry, "source", &source, error) < 0 ||
	    opt_int(entry, "scope", 0, UINT8_MAX, &route->scope, error) < 0 ||
	    opt_int(entry, "metric", 0, UINT32_MAX, &route->metric, error) < 0 || opt_bool(entry, "onlink", &route->onlink, error) < 0)
		return -1;
	if (parse_address(destination, &route->destination) < 0)
		return node_fail(entry, "destination", error, "is not an address");
	route->has_gateway = *gateway;
	if (*gateway && parse_address(gateway, &route->gateway) < 0)
		return node_fail(entry, "gateway", error, "is not an address");
	route->has_source = *source;
	if (*source && parse_address(source, &route->source) < 0)
		return node_fail(entry, "source", error, "is not an address");
	if ((*gateway && route->gateway.family != route->destination.family) || (*source && route->source.family != route->destination.family))
		return node_fail(entry, NULL, error, "mixes IPv4 and IPv6");
	route->index = *interface ? if_nametoindex(interface) : 0;
	if (*interface && !route->index)
		return error_sys(error, ENODEV, "cannot find network interface %s", interface);
	return 0;
}

static int add_route(const struct net *net, const struct node *entry, const struct route *route, struct error *error)
{
	struct nl_request request;
	struct rtmsg *info = nl_begin(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	const char *name = json_string_value(json_object_get(entry->json, "destination"));
	int result;

	info->rtm_family = (unsigned char)route->destination.family;
	info->rtm_dst_len = (unsigned char)route->destination.prefix;
	info->rtm_table = RT_TABLE_MAIN;
	info->rtm_protocol = RTPROT_BOOT;
	info->rtm_type = RTN_UNICAST;
	info->rtm_scope = (unsigned char)route->scope;
	info->rtm_flags = route->onlink ? RTNH_F_ONLINK : 0;
	if (route->destination.prefix)
		nl_attr(&request, RTA_DST, route->destination.bytes, route->destination.len);
	if (route->has_gateway)
		nl_attr(&request, RTA_GATEWAY, route->gateway.bytes, route->gateway.len);
	if (route->has_source)
		nl_attr(&request, RTA_PREFSRC, route->source.bytes, route->source.len);
	if (route->index)
		nl_attr_u32(&request, RTA_OIF, route->index);
	if (route->metric)
		nl_attr_u32(&request, RTA_PRIORITY, (uint32_t)route->metric);
	result = nl_talk(net->fd, &request);
	return result < 0 ? error_sys(error, -result, "cannot add the route to %s", name) : 0;
}

/* Those without a gateway first: a gateway must be reachable when its route is added. */
static int add_routes(const struct net *net, const struct node *args, struct error *error)
{
	struct node list, entry;
	struct route route;

	if (opt_array(args, "routes", &list, error) < 0)
		return -1;
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < array_len(&list); i++) {
			if (array_object(&list, i, &entry, error) < 0 || parse_route(&entry, &route, error) < 0)
				return -1;
			if (route.has_gateway == (pass == 1) && add_route(net, &entry, &route, error) < 0)
				return -1;
		}
	}
	return 0;
}

static int add_neighbour(const struct net *net, const struct node *entry, struct error *error)
{
	struct nl_request request;
	struct ndmsg *info = nl_begin(&request, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	const char *interface, *text, *mac;
	unsigned char link[MAC_LEN];
	struct address address;
	int result;

	if (get_str(entry, "interface", &interface, error) < 0 || get_str(entry, "address", &text, error) < 0 || get_str(entry, "mac", &mac, error) < 0)
		return -1;
	if (parse_address(text, &address) < 0)
		return node_fail(entry, "address", error, "is not an address");
	if (parse_mac(mac, link) < 0)
		return node_fail(entry, "mac", error, "is not a link address");
	info->ndm_family = (unsigned char)address.family;
	info->ndm_ifindex = (int)if_nametoindex(interface);
	info->ndm_state = NUD_PERMANENT;
	if (!info->ndm_ifindex)
		return error_sys(error, ENODEV, "cannot find network interface %s", interface);
	nl_attr(&request, NDA_DST, address.bytes, address.len);
	nl_attr(&request, NDA_LLADDR, link, sizeof(link));
	result = nl_talk(net->fd, &request);
	return result < 0 ? error_sys(error, -result, "cannot add neighbour %s", text) : 0;
}

typedef int entry_fn(const struct net *net, const struct node *entry, struct error *error);

static int each_entry(const struct net *net, const struct node *args, const char *member, entry_fn *fn, struct error *error)
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

/* Before there is a template of this guest: half of what a setup without interfaces would take is spent here. */
int net_loopback(struct error *error)
{
	cleanup_close int fd = nl_open(0);
	struct net net = { .fd = fd, .events = -1 };
	int result = fd < 0 ? fd : change_link(&net, (int)if_nametoindex("lo"), IFF_UP, NULL, 0);

	return result < 0 ? error_sys(error, -result, "cannot bring up the loopback interface") : 0;
}

int net_setup(const struct node *args, struct error *error)
{
	cleanup_close int fd = -1, events = -1;
	struct net net;

	if (!json_object_get(args->json, "interfaces") && !json_object_get(args->json, "routes") && !json_object_get(args->json, "neighbours"))
		return 0;
	net.fd = fd = nl_open(0);
	net.events = events = nl_open(RTMGRP_LINK);
	if (fd < 0 || events < 0)
		return error_sys(error, fd < 0 ? -fd : -events, "cannot open a netlink socket");
	if (each_entry(&net, args, "interfaces", set_interface, error) < 0 || add_routes(&net, args, error) < 0)
		return -1;
	return each_entry(&net, args, "neighbours", add_neighbour, error);
}
