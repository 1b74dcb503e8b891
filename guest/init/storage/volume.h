/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume: file systems on disks that are more than mounted: filled from the image, mounted in part, grown; and those of a container that runs already.
 */
#ifndef RUNV_VOLUME_H
#define RUNV_VOLUME_H

#include "mounts.h"

/* What the options want in a file system before anybody sees it; from is the directory that it is mounted on, to its own. */
int volume_prepare(const struct mount_request *request, int from, int to, struct error *error);

/* Lets it grow to its disk's size, if the options want that. */
int volume_grow(const struct mount_request *request, int mounted, struct error *error);

/* Mounts of a file system only the part that the options name. rest: the attributes that mount(2) does not set. */
int volume_mount_part(int root_fd, const struct mount_request *request, unsigned long flags, struct mount_options *rest, struct error *error);

/* Binds only the part of the source that the options name. */
int volume_bind_part(int root_fd, const struct mount_request *request, struct error *error);

/*
 * The operations, run in helpers. attach: a disk's file system into a container whose first process is "pid"; detach: out of it; tend: file systems on
 * disks are written out ("sync") or grow to the size that their disks have now ("grow").
 */
int volume_attach(const struct node *args, json_t **result, struct error *error);
int volume_detach(const struct node *args, json_t **result, struct error *error);
int volume_tend(const struct node *args, json_t **result, struct error *error);

#endif
