/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp_built: a filter that the host has made of a profile, as hexadecimal text. To make it where the processor is emulated takes as long as the rest of
 * a container.
 */
#ifndef RUNV_SECCOMP_BUILT_H
#define RUNV_SECCOMP_BUILT_H

#include "seccomp.h"

/* 1: there was one, and it is in *program. 0: there is none. -1: it is wrong. */
int seccomp_built(const struct node *seccomp, struct seccomp_program *program, struct error *error);

#endif
