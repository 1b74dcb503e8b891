/* SPDX-License-Identifier: Apache-2.0 */
/* copy_up: the mount option "tmpcopyup", which fills a new tmpfs with what it covers. */
#ifndef RUNV_COPY_UP_H
#define RUNV_COPY_UP_H

#include "error.h"

int copy_up(int from_fd, int to_fd, struct error *error);

#endif
