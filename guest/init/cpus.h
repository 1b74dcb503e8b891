/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpus: how many of the machine's CPUs are used. One that was plugged a moment ago has to be set online by hand, and is waited for; one that is
 * not wanted any more is set offline and stays where it is. Runs in a helper.
 */
#ifndef RUNV_CPUS_H
#define RUNV_CPUS_H

#include "jsonget.h"

int cpus_use(const struct node *args, json_t **result, struct error *error);

#endif
