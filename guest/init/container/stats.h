/* SPDX-License-Identifier: Apache-2.0 */
/* stats: what the kernel counts of a container, as the files of its cgroup have it. The host makes sense of it. */
#ifndef RUNV_STATS_H
#define RUNV_STATS_H

#include "agent.h"

op_fn container_stats;

#endif
