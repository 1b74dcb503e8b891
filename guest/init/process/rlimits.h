/* SPDX-License-Identifier: Apache-2.0 */
/* rlimits: rlimits and the OOM score of a process that waits for its start, applied from outside. */
#ifndef RUNV_RLIMITS_H
#define RUNV_RLIMITS_H

#include <sys/types.h>

#include "jsonget.h"

int rlimits_apply(pid_t pid, const struct node *process, struct error *error);

/* What a process starts out with, before its own limits: PID 1's many descriptors are not for everyone. */
void rlimits_reset(void);

#endif
