/* SPDX-License-Identifier: Apache-2.0 */
/* setup: what the sandbox is given once: its name, time and entropy, shares and network. */
#ifndef RUNV_SETUP_H
#define RUNV_SETUP_H

#include <stdbool.h>

#include "jsonget.h"

/*
 * Whether nothing of it can hang, and PID 1 may do it: a process of its own takes longer than all that. 9p's server is QEMU, and what it has to look at for
 * a mount is an empty folder of runv's; who serves virtiofs may be gone, and interfaces are waited for.
 */
bool setup_is_quick(const struct node *args);

int setup_run(const struct node *args, json_t **result, struct error *error);

#endif
