/* SPDX-License-Identifier: Apache-2.0 */
/* namespaces: which ones a container gets anew, and which of another container's it joins. */
#ifndef RUNV_NAMESPACES_H
#define RUNV_NAMESPACES_H

#include "container.h"
#include "spawn.h"

/* Reads linux.namespaces into spawn, with open descriptors (the caller's to close, also on -1), and container->namespaces. */
int namespaces_plan(struct container *container, const struct node *linux_node, struct spawn *spawn, struct error *error);

/* In the child, still with PID 1's identity: the namespaces that cannot come with the clone. */
int namespaces_late(const struct spawn *spawn, const struct node *linux_node, struct error *error);

/* In the child: hostname and domainname, which need a UTS namespace of the container's own. */
int namespaces_names(const struct container *container, const struct node *oci, struct error *error);

#endif
