/* SPDX-License-Identifier: Apache-2.0 */
/* boot: the guest's own root directory and the kernel's file systems in it. */
#ifndef RUNV_BOOT_H
#define RUNV_BOOT_H

#include <stdbool.h>

#include "error.h"

/*
 * Moves PID 1 to a root of its own, with everything mounted. In a test, share (may be NULL) is a directory of the machine that is to appear
 * as /run/runv/share.
 */
int boot_mounts(bool test, const char *share, struct error *error);

#endif
