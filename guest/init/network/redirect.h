/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redirect: an address and port that lead to another port of the same address, for the sockets of all processes of the guest. What Docker does with
 * rules of iptables in a container's network namespace; as programs of the root cgroup it costs nothing per packet, no container can flush it, and the port
 * stays free for a server in a container that binds it on all addresses. Sockets of IPv6 that use the address in its mapped form are led there as well.
 */
#ifndef RUNV_REDIRECT_H
#define RUNV_REDIRECT_H

#include <netinet/in.h>

#include "error.h"

enum { REDIRECT_LINKS = 5 };

struct redirect {
	int links[REDIRECT_LINKS]; /* it holds until these are closed; -1: none */
};

#define REDIRECT_NONE ((struct redirect){ { -1, -1, -1, -1, -1 } })

/* type: SOCK_STREAM or SOCK_DGRAM. from's port leads to port (in host order). On failure nothing is left. */
int redirect_start(struct redirect *redirect, int type, const struct sockaddr_in *from, uint16_t port, struct error *error);
void redirect_stop(struct redirect *redirect);

#endif
