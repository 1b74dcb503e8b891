/* SPDX-License-Identifier: Apache-2.0 */
/* identity: who the program runs as. Runs in the child, inside the container. */
#ifndef RUNV_IDENTITY_H
#define RUNV_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#include "caps.h"
#include "jsonget.h"

struct identity {
	uid_t uid;
	gid_t gid;
	bool no_new_privileges;
	struct caps caps;
};

int identity_parse(const struct node *process, struct identity *identity, struct error *error);

/*
 * Becomes the user, with its capabilities, but for one: without no_new_privileges, loading a seccomp filter takes CAP_SYS_ADMIN, which is kept
 * aside, not effective, until identity_seal.
 */
int identity_assume(const struct node *process, const struct identity *identity, struct error *error);

/* Makes the capability that was kept effective, for the filter that is loaded next. */
int identity_unseal(const struct identity *identity, struct error *error);
/* Leaves what the program may have. */
int identity_seal(const struct identity *identity, struct error *error);

#endif
