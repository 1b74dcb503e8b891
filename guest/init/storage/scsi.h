/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scsi: disks come to the machine, and go, when the agent is told, and never by themselves: the controller tells the kernel nothing of it. Its events
 * get lost when many disks come at once, and one that is late could name a disk that has taken another's place.
 */
#ifndef RUNV_SCSI_H
#define RUNV_SCSI_H

#include <stdbool.h>

/* Has the kernel look for new disks on every virtio-scsi controller that there is. Those it finds appear a moment later. */
void scsi_scan(void);

#define SCSI_DEVICES "/sys/class/scsi_device"

/* Has the kernel ask a disk, by its node in /dev, for its size again. Other kinds of disks tell it by themselves. */
void scsi_rescan(const char *node);

/*
 * Forgetting a disk takes several of RCU's grace periods, some 60 ms in all, and the kernel forgets one after another. Hurried, a grace period takes next to
 * nothing in a machine of few processors.
 */
void scsi_hurry(bool hurry);

/* Has the kernel forget the device of this name below SCSI_DEVICES, once it is written out. 0, or -1 with errno; one that is gone already is fine. */
int scsi_forget(const char *name);

#endif
