/* SPDX-License-Identifier: Apache-2.0 */
/* netlink: requests to rtnetlink, one at a time, each answered before the next. */
#ifndef RUNV_NETLINK_H
#define RUNV_NETLINK_H

#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

enum { NL_REQUEST_MAX = 4096 };

struct nl_request {
	struct nlmsghdr header;
	char body[NL_REQUEST_MAX];
};

/* A socket, or -errno. groups: RTMGRP_* to be told of, 0 for none. */
int nl_open(unsigned int groups);

/* Begins a request whose first part is a fixed structure of len bytes, which is returned, zeroed. */
void *nl_begin(struct nl_request *request, uint16_t type, uint16_t flags, size_t len);
void nl_attr(struct nl_request *request, unsigned short type, const void *data, size_t len);
void nl_attr_u32(struct nl_request *request, unsigned short type, uint32_t value);
void nl_attr_str(struct nl_request *request, unsigned short type, const char *value);
/* What is added between the two lies inside the attribute. */
struct rtattr *nl_nest(struct nl_request *request, unsigned short type);
void nl_nest_end(struct nl_request *request, struct rtattr *nest);
/* Adds bytes that are no attribute; returns where they are. */
void *nl_append(struct nl_request *request, const void *data, size_t len);

/* Sends it and waits for the acknowledgement: 0 or -errno. */
int nl_talk(int fd, struct nl_request *request);

/* Sends a dump request and calls fn for each message of the answer. 0 or -errno. */
typedef void nl_fn(const struct nlmsghdr *message, void *arg);
int nl_dump(int fd, struct nl_request *request, nl_fn *fn, void *arg);

#endif
