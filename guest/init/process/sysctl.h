/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RUNV_SYSCTL_H
#define RUNV_SYSCTL_H

#include "jsonget.h"

/*
 * Sets all in an object of names and values (absent: none), through the /proc given. They take effect in the namespaces of the caller.
 */
int sysctl_apply(int proc_fd, const struct node *table, struct error *error);

#endif
