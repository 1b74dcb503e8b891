/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pause: the program of a container that only holds its pod's namespaces. As the first process of a pid namespace it takes the status of every
 * process there that nobody else waits for.
 */
#ifndef RUNV_PAUSE_H
#define RUNV_PAUSE_H

/* Waits for SIGTERM or SIGINT, and ends with status 0. */
_Noreturn void pause_main(void);

#endif
