/* SPDX-License-Identifier: Apache-2.0 */
/* tar_out: a tree as an archive on a descriptor. Changes the working directory. */
#ifndef RUNV_TAR_OUT_H
#define RUNV_TAR_OUT_H

#include "jsonget.h"

/* The entry called name in the directory, with all that is below it, as an archive whose paths begin with prefix; with the name empty, what is in the directory. */
int tar_out(int dir, const char *name, const char *prefix, int fd, struct error *error);

/*
 * What is in an upper directory of overlayfs, as a layer of an OCI image: whiteouts and opaque directories become files with names of their own. Empty files
 * and directories that are there because something of mounts, OCI's list, is mounted on them are left out.
 */
int tar_out_layer(int upper, const struct node *mounts, int fd, struct error *error);

#endif
