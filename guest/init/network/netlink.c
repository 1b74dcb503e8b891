/* SPDX-License-Identifier: Apache-2.0 */
#include "netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_MAX = 32768 };

int nl_open(unsigned int groups)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int result = -errno;

		close(fd);
		return result;
	}
	return fd;
}

void *nl_begin(struct nl_request *request, uint16_t type, uint16_t flags, size_t len)
{
	memset(request, 0, sizeof(*request));
	request->header.nlmsg_type = type;
	request->header.nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST);
	request->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(len);
	return NLMSG_DATA(&request->header);
}

/* All that callers put in is bounded by its own type or by a limit of theirs, and less than fits: one that does not is a bug of ours. */
void *nl_append(struct nl_request *request, const void *data, size_t len)
{
	size_t at = NLMSG_ALIGN(request->header.nlmsg_len);

	if (at + NLMSG_ALIGN(len) > sizeof(*request))
		abort();
	memcpy((char *)request + at, data, len);
	request->header.nlmsg_len = (uint32_t)(at + NLMSG_ALIGN(len));
	return (char *)request + at;
}

void nl_attr(struct nl_request *request, unsigned short type, const void *data, size_t len)
{
	struct rtattr attr = { .rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = type };

	nl_append(request, &attr, sizeof(attr));
	nl_append(request, data, len);
}

struct rtattr *nl_nest(struct nl_request *request, unsigned short type)
{
	struct rtattr attr = { .rta_type = type };

	return nl_append(request, &attr, sizeof(attr));
}

void nl_nest_end(struct nl_request *request, struct rtattr *nest)
{
	nest->rta_len = (unsigned short)((char *)request + request->header.nlmsg_len - (char *)nest);
}

void nl_attr_u32(struct nl_request *request, unsigned short type, uint32_t value)
{
	nl_attr(request, type, &value, sizeof(value));
}

void nl_attr_str(struct nl_request *request, unsigned short type, const char *value)
{
	nl_attr(request, type, value, strlen(value) + 1);
}

static int send_request(int fd, const struct nl_request *request)
{
	return send(fd, request, request->header.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* The errno of an error or acknowledgement; 1: it is another message. */
static int verdict(const struct nlmsghdr *message)
{
	const struct nlmsgerr *error;

	if (message->nlmsg_type == NLMSG_DONE)
		return 0;
	if (message->nlmsg_type != NLMSG_ERROR || message->nlmsg_len < NLMSG_LENGTH(sizeof(*error)))
		return 1;
	error = NLMSG_DATA(message);
	return error->error;
}

/* Reads until the request is done with. */
static int receive(int fd, nl_fn *fn, void *arg)
{
	union {
		struct nlmsghdr header;
		char bytes[ANSWER_MAX];
	} answer;

	for (;;) {
		ssize_t n = recv(fd, &answer, sizeof(answer), 0);
		size_t left = n > 0 ? (size_t)n : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPROTO;
		for (struct nlmsghdr *m = &answer.header; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
			int result = verdict(m);

			if (result <= 0)
				return result;
			if (fn)
				fn(m, arg);
		}
	}
}

int nl_talk(int fd, struct nl_request *request)
{
	int result;

	request->header.nlmsg_flags |= NLM_F_ACK;
	result = send_request(fd, request);
	return result < 0 ? result : receive(fd, NULL, NULL);
}

int nl_dump(int fd, struct nl_request *request, nl_fn *fn, void *arg)
{
	int result;

	request->header.nlmsg_flags |= NLM_F_DUMP;
	result = send_request(fd, request);
	return result < 0 ? result : receive(fd, fn, arg);
}
