/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An out-of-memory kill in the guest, shown on the host. Engines hear of one in no other way than from the kernel: an event of the memory cgroup that the
 * container's process is in (v1: an eventfd on memory.oom_control, v2: memory.events). So one is brought about there, and hits a child made for it.
 */
#ifndef RUNV_STANDIN_OOM_H
#define RUNV_STANDIN_OOM_H

/* folder: the memory cgroup, of either version. Takes a quarter of a second, a few at the most. Where it cannot be done it is not. */
void oom_show(const char *folder);

#endif
