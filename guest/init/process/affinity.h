/* SPDX-License-Identifier: Apache-2.0 */
/* affinity: OCI's process.execCPUAffinity, which is for further processes only. The CPUs are the guest's. */
#ifndef RUNV_AFFINITY_H
#define RUNV_AFFINITY_H

#include "jsonget.h"

int affinity_apply(const struct node *process, struct error *error);

#endif
