/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar_in: an archive from a descriptor into a directory. Names with ".." are refused. Links are followed as those of the process's root: it runs within
 * the container, of which nothing leads out. Changes the working directory.
 */
#ifndef RUNV_TAR_IN_H
#define RUNV_TAR_IN_H

#include "error.h"

/* Reads to the end of the descriptor, also where the archive ends before. */
int tar_in(int dir, int fd, struct error *error);

#endif
