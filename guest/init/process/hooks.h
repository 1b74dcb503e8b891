/* SPDX-License-Identifier: Apache-2.0 */
/* hooks: OCI's startContainer hooks. The child runs them in the container, as the user and below the filter of the program that they precede. */
#ifndef RUNV_HOOKS_H
#define RUNV_HOOKS_H

#include "identity.h"
#include "jsonget.h"
#include "seccomp.h"

struct hook_runner {
	const struct identity *identity;
	const struct seccomp_program *seccomp;
	char **env; /* the program's, for a hook without one */
};

/* Runs oci.hooks.startContainer in order, each with oci.state on its standard input. Stops at the first that fails. */
int hooks_run(const struct node *oci, const struct hook_runner *runner, struct error *error);

#endif
