/* SPDX-License-Identifier: Apache-2.0 */
/* listen: the two carriers, vsock and serial. Above this nobody knows which of them it is. */
#ifndef RUNV_LISTEN_H
#define RUNV_LISTEN_H

#include "agent.h"

/* agent->transport says which; link_fd is the serial link where it is there already, as in the tests. */
int listen_init(struct agent *agent, struct error *error);

#endif
