/* SPDX-License-Identifier: Apache-2.0 */
/* caps: capability sets as bits, from OCI's names into the kernel. */
#ifndef RUNV_CAPS_H
#define RUNV_CAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "jsonget.h"

struct caps {
	bool given; /* false: the process has no "capabilities", so none at all */
	uint64_t effective, permitted, inheritable, bounding, ambient;
};

/* Names the kernel or we do not know are ignored, as the specification wants. */
int caps_parse(const struct node *process, struct caps *caps, struct error *error);

int caps_set(uint64_t effective, uint64_t permitted, uint64_t inheritable, struct error *error);
int caps_drop_bounding(uint64_t keep, struct error *error);
/* Needs them in the permitted and inheritable sets. */
int caps_raise_ambient(uint64_t ambient, struct error *error);

#endif
