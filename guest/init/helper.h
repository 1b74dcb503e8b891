/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper: work that may take long or hang, done in a forked process: mounting a share whose server does not answer, or reading the command line of
 * a process that waits for one. PID 1 only waits for the answer in its loop.
 */
#ifndef RUNV_HELPER_H
#define RUNV_HELPER_H

#include "agent.h"

/* Runs in the helper. The result (NULL: an empty object) is the reply's, or the error with -1. */
typedef int helper_fn(const struct node *args, json_t **result, struct error *error);

/* Takes the reply over on 0. */
int helper_start(struct agent *agent, helper_fn *fn, const struct node *args, struct reply *reply, struct error *error);

#endif
