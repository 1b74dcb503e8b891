/* SPDX-License-Identifier: Apache-2.0 */
/* signals: all are blocked for ever; those that mean something come out of one descriptor. */
#ifndef RUNV_SIGNALS_H
#define RUNV_SIGNALS_H

#include "agent.h"

int signals_init(struct agent *agent, struct error *error);

#endif
