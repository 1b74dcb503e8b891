/* SPDX-License-Identifier: Apache-2.0 */
/* Which way packets go: routes, the rules that choose among tables of them, and neighbours that are known for good. */
#include <errno.h>
#include <linux/fib_rules.h>
#include <limits.h>
#include <string.h>

#include "net.h"
#include "netlink.h"

enum { HOPS_MAX = 32, WEIGHT_MAX = 256 };

struct word {
	const char *name;
	unsigned char value;
};

static const struct word route_types[] = {
	{ "unicast", RTN_UNICAST }, { "blackhole", RTN_BLACKHOLE }, { "unreachable", RTN_UNREACHABLE },
	{ "prohibit", RTN_PROHIBIT }, { "throw", RTN_THROW }, { NULL, 0 },
};

static const struct word rule_types[] = {
	{ "lookup", FR_ACT_TO_TBL }, { "blackhole", FR_ACT_BLACKHOLE }, { "unreachable", FR_ACT_UNREACHABLE },
	{ "prohibit", FR_ACT_PROHIBIT }, { NULL, 0 },
};

/* The first of the words is meant where the member is absent. */
static int opt_word(const struct node *entry, const char *member, const struct word *words, unsigned char *value, struct error *error)
{
	const char *name = words->name;

	if (opt_str(entry, member, &name, error) < 0)
		return -1;
	for (; words->name; words++) {
		if (strcmp(words->name, name) == 0) {
			*value = words->value;
			return 0;
		}
	}
	return node_fail(entry, member, error, "is not one that is known");
}

/* 1: there. 0: absent or empty. -1 */
static int opt_address(const struct node *entry, const char *member, struct address *address, struct error *error)
{
	const char *text = "";

	if (opt_str(entry, member, &text, error) < 0)
		return -1;
	if (!*text)
		return 0;
	return address_parse(text, address) < 0 ? node_fail(entry, member, error, "is not an address") : 1;
}

/* The same, of one family only. */
static int opt_address_of(const struct node *entry, const char *member, int family, struct address *address, struct error *error)
{
	int found = opt_address(entry, member, address, error);

	return found > 0 && address->family != family ? node_fail(entry, NULL, error, "mixes IPv4 and IPv6") : found;
}

struct hop {
	struct address gateway;
	bool has_gateway, onlink;
	unsigned int index; /* 0: none */
	int64_t weight;
};

struct route {
	struct address destination, source;
	bool has_source;
	unsigned char type;
	int64_t scope, metric, table, mtu, advmss;
	struct hop hops[HOPS_MAX];
	size_t count;
	bool has_gateway; /* one of the hops */
};

static int parse_hop(const struct node *entry, const struct route *route, struct hop *hop, struct error *error)
{
	const char *interface = "";
	int found = opt_address(entry, "gateway", &hop->gateway, error);

	hop->has_gateway = found > 0;
	hop->weight = 1;
	if (found < 0 || opt_str(entry, "interface", &interface, error) < 0 || opt_bool(entry, "onlink", &hop->onlink, error) < 0 ||
	    opt_int(entry, "weight", 1, WEIGHT_MAX, &hop->weight, error) < 0)
		return -1;
	/* What IPv4 has, and IPv6 has not: a next hop of the other family. */
	if (hop->has_gateway && route->destination.family == AF_INET6 && hop->gateway.family != AF_INET6)
		return node_fail(entry, NULL, error, "mixes IPv4 and IPv6");
	hop->index = *interface ? if_nametoindex(interface) : 0;
	if (*interface && !hop->index)
		return error_sys(error, ENODEV, "cannot find network interface %s", interface);
	return 0;
}

static int parse_hops(const struct node *entry, struct route *route, struct error *error)
{
	struct node list, hop;

	if (opt_array(entry, "hops", &list, error) < 0)
		return -1;
	if (array_len(&list) > HOPS_MAX)
		return node_fail(entry, "hops", error, "are more than 32");
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &hop, error) < 0 || parse_hop(&hop, route, &route->hops[i], error) < 0)
			return -1;
		route->has_gateway |= route->hops[i].has_gateway;
	}
	route->count = array_len(&list);
	if (route->count || route->type != RTN_UNICAST)
		return 0;
	route->count = 1;
	if (parse_hop(entry, route, &route->hops[0], error) < 0)
		return -1;
	route->has_gateway = route->hops[0].has_gateway;
	return 0;
}

static int parse_route(const struct node *entry, struct route *route, struct error *error)
{
	const char *destination;
	int found;

	memset(route, 0, sizeof(*route));
	route->table = RT_TABLE_MAIN;
	if (get_str(entry, "destination", &destination, error) < 0 || opt_word(entry, "type", route_types, &route->type, error) < 0 ||
	    opt_int(entry, "scope", 0, UINT8_MAX, &route->scope, error) < 0 ||
	    opt_int(entry, "metric", 0, UINT32_MAX, &route->metric, error) < 0 ||
	    opt_int(entry, "table", 1, UINT32_MAX, &route->table, error) < 0 || opt_int(entry, "mtu", 0, UINT32_MAX, &route->mtu, error) < 0 ||
	    opt_int(entry, "advmss", 0, UINT32_MAX, &route->advmss, error) < 0)
		return -1;
	if (address_parse(destination, &route->destination) < 0)
		return node_fail(entry, "destination", error, "is not an address");
	found = opt_address_of(entry, "source", route->destination.family, &route->source, error);
	route->has_source = found > 0;
	return found < 0 ? -1 : parse_hops(entry, route, error);
}

static void add_gateway(struct nl_request *request, const struct hop *hop, int family)
{
	struct {
		uint16_t family;
		unsigned char bytes[sizeof(struct in6_addr)];
	} via = { .family = (uint16_t)hop->gateway.family };

	if (!hop->has_gateway)
		return;
	if (hop->gateway.family == family) {
		nl_attr(request, RTA_GATEWAY, hop->gateway.bytes, hop->gateway.len);
		return;
	}
	memcpy(via.bytes, hop->gateway.bytes, hop->gateway.len);
	nl_attr(request, RTA_VIA, &via, sizeof(via.family) + hop->gateway.len);
}

static void add_hops(struct nl_request *request, const struct route *route)
{
	struct rtattr *list = nl_nest(request, RTA_MULTIPATH);

	for (size_t i = 0; i < route->count; i++) {
		const struct hop *hop = &route->hops[i];
		struct rtnexthop next = {
			.rtnh_flags = hop->onlink ? RTNH_F_ONLINK : 0,
			.rtnh_hops = (unsigned char)(hop->weight - 1),
			.rtnh_ifindex = (int)hop->index,
		};
		char *place = nl_append(request, &next, sizeof(next));

		add_gateway(request, hop, route->destination.family);
		next.rtnh_len = (unsigned short)((char *)request + request->header.nlmsg_len - place);
		memcpy(place, &next, sizeof(next));
	}
	nl_nest_end(request, list);
}

static void add_metrics(struct nl_request *request, const struct route *route)
{
	struct rtattr *metrics;

	if (!route->mtu && !route->advmss)
		return;
	metrics = nl_nest(request, RTA_METRICS);
	if (route->mtu)
		nl_attr_u32(request, RTAX_MTU, (uint32_t)route->mtu);
	if (route->advmss)
		nl_attr_u32(request, RTAX_ADVMSS, (uint32_t)route->advmss);
	nl_nest_end(request, metrics);
}

static int add_route(const struct net *net, const struct node *entry, const struct route *route, struct error *error)
{
	struct nl_request request;
	struct rtmsg *info = nl_begin(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*info));
	const char *name = json_string_value(json_object_get(entry->json, "destination"));
	int result;

	info->rtm_family = (unsigned char)route->destination.family;
	info->rtm_dst_len = (unsigned char)route->destination.prefix;
	info->rtm_table = route->table <= UINT8_MAX ? (unsigned char)route->table : RT_TABLE_UNSPEC;
	info->rtm_protocol = RTPROT_BOOT;
	info->rtm_type = route->type;
	info->rtm_scope = (unsigned char)route->scope;
	nl_attr_u32(&request, RTA_TABLE, (uint32_t)route->table);
	if (route->destination.prefix)
		nl_attr(&request, RTA_DST, route->destination.bytes, route->destination.len);
	if (route->has_source)
		nl_attr(&request, RTA_PREFSRC, route->source.bytes, route->source.len);
	if (route->metric)
		nl_attr_u32(&request, RTA_PRIORITY, (uint32_t)route->metric);
	add_metrics(&request, route);
	if (route->count == 1) {
		info->rtm_flags = route->hops[0].onlink ? RTNH_F_ONLINK : 0;
		add_gateway(&request, &route->hops[0], route->destination.family);
		if (route->hops[0].index)
			nl_attr_u32(&request, RTA_OIF, route->hops[0].index);
	} else if (route->count) {
		add_hops(&request, route);
	}
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

static int add_rule_addresses(struct nl_request *request, struct fib_rule_hdr *info, const struct node *entry, struct error *error)
{
	struct address from, to;
	int has_from = opt_address_of(entry, "source", info->family, &from, error);
	int has_to = has_from < 0 ? -1 : opt_address_of(entry, "destination", info->family, &to, error);

	if (has_from < 0 || has_to < 0)
		return -1;
	if (has_from) {
		info->src_len = (unsigned char)from.prefix;
		nl_attr(request, FRA_SRC, from.bytes, from.len);
	}
	if (has_to) {
		info->dst_len = (unsigned char)to.prefix;
		nl_attr(request, FRA_DST, to.bytes, to.len);
	}
	return 0;
}

static int add_rule_links(struct nl_request *request, const struct node *entry, struct error *error)
{
	const char *input = "", *output = "";

	if (opt_str(entry, "input", &input, error) < 0 || opt_str(entry, "output", &output, error) < 0)
		return -1;
	if (strlen(input) >= IF_NAMESIZE || strlen(output) >= IF_NAMESIZE)
		return node_fail(entry, NULL, error, "names an interface longer than a name can be");
	if (*input)
		nl_attr_str(request, FRA_IIFNAME, input);
	if (*output)
		nl_attr_str(request, FRA_OIFNAME, output);
	return 0;
}

static int add_rule(const struct net *net, const struct node *entry, struct error *error)
{
	struct nl_request request;
	struct fib_rule_hdr *info = nl_begin(&request, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, sizeof(*info));
	int64_t family, priority, table = 0, mark = 0, mask = 0;
	bool inverted = false;
	int result;

	if (get_int(entry, "family", 4, 6, &family, error) < 0 || get_int(entry, "priority", 0, UINT32_MAX, &priority, error) < 0 ||
	    opt_int(entry, "table", 0, UINT32_MAX, &table, error) < 0 || opt_int(entry, "mark", 0, UINT32_MAX, &mark, error) < 0 ||
	    opt_int(entry, "mask", 0, UINT32_MAX, &mask, error) < 0 || opt_bool(entry, "inverted", &inverted, error) < 0 ||
	    opt_word(entry, "type", rule_types, &info->action, error) < 0)
		return -1;
	info->family = family == 4 ? AF_INET : AF_INET6;
	info->table = table <= UINT8_MAX ? (unsigned char)table : RT_TABLE_UNSPEC;
	info->flags = inverted ? FIB_RULE_INVERT : 0;
	nl_attr_u32(&request, FRA_PRIORITY, (uint32_t)priority);
	if (table)
		nl_attr_u32(&request, FRA_TABLE, (uint32_t)table);
	if (mark || mask) {
		nl_attr_u32(&request, FRA_FWMARK, (uint32_t)mark);
		nl_attr_u32(&request, FRA_FWMASK, (uint32_t)mask);
	}
	if (add_rule_addresses(&request, info, entry, error) < 0 || add_rule_links(&request, entry, error) < 0)
		return -1;
	result = nl_talk(net->fd, &request);
	if (result == 0 || result == -EEXIST)
		return 0;
	return error_sys(error, -result, "cannot add the routing rule with priority %u", (unsigned int)priority);
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
	if (address_parse(text, &address) < 0)
		return node_fail(entry, "address", error, "is not an address");
	if (mac_parse(mac, link) < 0)
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

int net_routes(const struct net *net, const struct node *args, struct error *error)
{
	if (add_routes(net, args, error) < 0 || net_each(net, args, "rules", add_rule, error) < 0)
		return -1;
	return net_each(net, args, "neighbours", add_neighbour, error);
}
