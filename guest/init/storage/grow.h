/* SPDX-License-Identifier: Apache-2.0 */
/* grow: a mounted ext4 or XFS takes all of its disk. */
#ifndef RUNV_GROW_H
#define RUNV_GROW_H

#include "error.h"

/* fd: any directory of the file system. One of another type, or that cannot grow, is an error; one that has all of it already is not. */
int grow(int fd, const char *device, struct error *error);

#endif
