/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp_enosys: system calls that are newer than a profile. Its default action, EPERM as a rule, would make a C library that tries a new call
 * first give up; with ENOSYS it falls back to what the profile knows. runc does the same.
 */
#ifndef RUNV_SECCOMP_ENOSYS_H
#define RUNV_SECCOMP_ENOSYS_H

#include <linux/filter.h>
#include <stdint.h>

#include "jsonget.h"

enum { ENOSYS_ARCHES = 3, ENOSYS_BLOCK = 6, ENOSYS_MAX = ENOSYS_ARCHES * ENOSYS_BLOCK };

/*
 * Writes the instructions that go before the filter: ENOSYS for every call above the highest that the profile names on its architecture. How many
 * they are, 0 if the profile's default is to let calls through; or -1.
 */
int enosys_prelude(const struct node *seccomp, uint32_t default_action, struct sock_filter code[ENOSYS_MAX], struct error *error);

#endif
