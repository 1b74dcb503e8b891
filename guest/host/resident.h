/* SPDX-License-Identifier: Apache-2.0 */
/* resident: what the bridge, the relay and the monitor have in common as processes that stay on the host when the command that started them has ended. */
#ifndef RUNV_RESIDENT_H
#define RUNV_RESIDENT_H

#include <stddef.h>

enum { RESIDENT_FD = 3 }; /* where inherited descriptors are moved to, so that all others can be closed */

/* The descriptor an argument names; -1: it names none that is open. */
int resident_fd_argument(const char *text);

/*
 * Lets go of all that is the caller's but the count descriptors of fds, which become RESIDENT_FD and those after it, non-blocking. Standard streams are
 * /dev/null, the working directory is /, and the session our own. 0 or -errno.
 */
int resident_detach(const int *fds, size_t count);

/* SIGTERM as a descriptor, other signals of terminals and SIGPIPE ignored; or -errno. */
int resident_signals(void);

/* Raises the limit on open files to wanted, or as far as it goes. */
void resident_file_limit(unsigned int wanted);

#endif
