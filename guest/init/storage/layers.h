/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layers: a root file system made of disks. EROFS images lie over each other, and on top of them an ext4 takes what the container changes, or,
 * where there is none, memory. Called in the container's mount namespace, before pivot_root: the layers' own mounts stay behind there.
 */
#ifndef RUNV_LAYERS_H
#define RUNV_LAYERS_H

#include "jsonget.h"

/* Mounts what root's "layers" (device nodes, bottom first) and "upper" name at place. */
int layers_mount(const struct node *root, const char *place, struct error *error);

#endif
