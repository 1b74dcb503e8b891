/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured in a guest: in a container of runv's and in a plain guest by the same code. */
#ifndef PROBE_H
#define PROBE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Seconds of a clock that only goes on. */
double probe_now(void);

/* All of it, or -1. */
int probe_write(int fd, const void *data, size_t len);
int probe_read(int fd, void *data, size_t len);

/*
 * Writes and reads megabytes in a file of folder, and makes, looks at and removes count files of 4 KiB there. A line for each on out: what it was, and
 * MB or files a second. -1 with errno.
 */
int probe_files(FILE *out, const char *folder, unsigned int megabytes, unsigned int count);

/* Serves clients on a TCP port, one after the other. Returns only when it cannot: -1 with errno. */
int probe_serve(uint16_t port);

/*
 * Sends and takes megabytes, and one byte there and back count times, as a client of the server at address. A line for each on out: MB a second, and
 * milliseconds for one round trip. -1 with errno.
 */
int probe_client(FILE *out, const char *address, uint16_t port, unsigned int megabytes, unsigned int count);

#endif
