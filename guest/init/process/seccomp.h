/* SPDX-License-Identifier: Apache-2.0 */
/* seccomp: OCI's linux.seccomp as a filter program. It is built before the start, and only handed to the kernel after it. */
#ifndef RUNV_SECCOMP_H
#define RUNV_SECCOMP_H

#include <linux/filter.h>

#include "jsonget.h"

struct seccomp_program {
	struct sock_fprog filter; /* len 0: no filter is asked for */
	unsigned int flags;
};

int seccomp_build(const struct node *linux_node, struct seccomp_program *program, struct error *error);
int seccomp_install(const struct seccomp_program *program, struct error *error);

#endif
