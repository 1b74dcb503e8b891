/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_up: fills a file system that was just mounted with what the image has at its place: owners, modes, times, attributes and hard links included.
 * The source may be anything that an image can hold. Changes the working directory.
 */
#ifndef RUNV_COPY_UP_H
#define RUNV_COPY_UP_H

#include "error.h"

/* What is below one directory into another, which is empty, and the owner and mode of the directory itself. Both may be O_PATH descriptors. */
int copy_up(int from_fd, int to_fd, struct error *error);

/*
 * The same for a volume, if it is empty but for lost+found; one container at a time. It is filled or empty afterwards, also when the power fails
 * meanwhile: what was begun is begun anew, or ended, the next time.
 */
int populate(int from_fd, int to_fd, struct error *error);

#endif
