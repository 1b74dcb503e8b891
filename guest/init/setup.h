/* SPDX-License-Identifier: Apache-2.0 */
/* setup: what the sandbox is given once: its name, time and entropy, shares and network. Runs in a helper. */
#ifndef RUNV_SETUP_H
#define RUNV_SETUP_H

#include "jsonget.h"

int setup_run(const struct node *args, json_t **result, struct error *error);

#endif
