/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net: the sandbox's network, which is the guest's only network namespace as far as the agent goes. It gets what the host found in the one it was
 * given. Cards are known by the address they were made with: that of their link may be another's too.
 */
#ifndef RUNV_NET_H
#define RUNV_NET_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "jsonget.h"

struct nlmsghdr;

enum { MAC_LEN = 6 };

struct address {
	int family;
	unsigned char bytes[sizeof(struct in6_addr)];
	size_t len;
	unsigned int prefix;
};

/* net_address.c: "10.0.0.2/24" or, where a prefix need not be, "10.0.0.2". 0 or -1 */
int address_parse(const char *text, struct address *address);
int mac_parse(const char *text, unsigned char mac[MAC_LEN]);
/* text has room for INET6_ADDRSTRLEN and a prefix; a link's address takes 18. */
enum { ADDRESS_TEXT_MAX = INET6_ADDRSTRLEN + 4, MAC_TEXT_MAX = 3 * MAC_LEN };
void mac_format(const unsigned char mac[MAC_LEN], char text[MAC_TEXT_MAX]);

struct net {
	int fd;     /* requests */
	int events; /* links that come */
};

struct link {
	unsigned char card[MAC_LEN]; /* what it is found by */
	unsigned char mac[MAC_LEN];  /* what it has now */
	int index;		     /* 0: not there */
	bool up;
	char name[IF_NAMESIZE];
};

/* What a RTM_NEWLINK says; false where it is no Ethernet link but the loopback, or another message. */
bool link_read(const struct nlmsghdr *message, struct link *link);

/* Fills the rest of link, or leaves its index 0. 0 or -errno */
int net_find(const struct net *net, struct link *link);

typedef int net_entry_fn(const struct net *net, const struct node *entry, struct error *error);
/* Calls fn for each object of the list. 0 or -1 */
int net_each(const struct net *net, const struct node *args, const char *member, net_entry_fn *fn, struct error *error);

/* net_routes.c: routes, rules and neighbours of args */
int net_routes(const struct net *net, const struct node *args, struct error *error);

/*
 * net_spare.c: cards that wait for a link are put away at boot: 0 or -1. spare_fetch gets the card that link names back and fills the rest of link, or
 * leaves its index 0 where there is no such card: 0 or -errno
 */
int spare_put_away(struct error *error);
int spare_unbind(const char *name); /* 0 or -errno */
int spare_fetch(const struct net *net, struct link *link);

/* At boot. 0 or -1 */
int net_boot(struct error *error);

/* The agent's requests; they run in a helper. */
int net_setup(const struct node *args, struct error *error);
int net_list(const struct node *args, json_t **result, struct error *error);
int net_unplug(const struct node *args, json_t **result, struct error *error);

#endif
