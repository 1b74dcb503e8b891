/* SPDX-License-Identifier: Apache-2.0 */
/* link: the connection from the host that a process forked from PID 1 serves, and the frames it begins with: one that says what is wanted, one that answers. */
#ifndef RUNV_LINK_H
#define RUNV_LINK_H

#include <jansson.h>

#include "error.h"
#include "wire.h"

enum { LINK = 3, LINK_FRAME_MAX = 65536, LINK_FRAME_MS = 10000 };

/* The frame that says what is wanted, or NULL: then there is nobody to answer. in holds what was read before. */
json_t *link_request(struct buf *in);

/* Consumes the message. 0 or -1 */
int link_answer(json_t *message);

json_t *link_error(const struct error *error);

/* From here on its reads and writes wait. 0 or -errno */
int link_block(void);

#endif
