/* SPDX-License-Identifier: Apache-2.0 */
/* sched_attr: scheduler, I/O priority and execution domain of a process. Runs in the child, while it still has the power to raise them. */
#ifndef RUNV_SCHED_ATTR_H
#define RUNV_SCHED_ATTR_H

#include "jsonget.h"

int sched_apply(const struct node *process, const struct node *linux_node, struct error *error);

#endif
