/* SPDX-License-Identifier: Apache-2.0 */
/* procs: the processes of a container, from its cgroup and /proc. Runs in a helper: reading a command line can wait for a page of a share. */
#ifndef RUNV_PROCS_H
#define RUNV_PROCS_H

#include "jsonget.h"

/* args: the container's id, and the name of its cgroup as "group" */
int procs_list(const struct node *args, json_t **result, struct error *error);

#endif
