/* SPDX-License-Identifier: Apache-2.0 */
/* power: the way down. */
#ifndef RUNV_POWER_H
#define RUNV_POWER_H

#include <sys/types.h>

#include "agent.h"

/* Kills everything, writes back what is dirty, and powers the machine off; within seconds, whatever hangs. */
void power_off(struct agent *agent);
void power_child_ended(struct agent *agent, pid_t pid);

#endif
