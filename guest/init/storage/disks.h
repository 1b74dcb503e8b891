/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disks: what the host cannot know of the guest's devices: under which name and numbers a disk appeared, and which character devices there
 * are. Runs in a helper: a disk that was plugged a moment ago is waited for.
 */
#ifndef RUNV_DISKS_H
#define RUNV_DISKS_H

#include "jsonget.h"

int disks_find(const struct node *args, json_t **result, struct error *error);

/* release: the kernel lets go of disks that nobody uses any more, before they are unplugged. */
int disks_release(const struct node *args, json_t **result, struct error *error);

#endif
