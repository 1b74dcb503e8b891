/* SPDX-License-Identifier: Apache-2.0 */
/* limits: rlimits and the OOM score of a process that waits for its start, applied from outside. */
#ifndef RUNV_LIMITS_H
#define RUNV_LIMITS_H

#include <sys/types.h>

#include "jsonget.h"

int limits_apply(pid_t pid, const struct node *process, struct error *error);

/* What a process starts out with, before its own limits: PID 1's many descriptors are not for everyone. */
void limits_reset(void);

#endif
