/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inroot: paths of a container, resolved by PID 1's child while it still stands outside. The kernel keeps every step within the root: a symbolic
 * link, absolute or with "..", cannot lead out of it, also when somebody changes it meanwhile.
 */
#ifndef RUNV_INROOT_H
#define RUNV_INROOT_H

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

/* As openat; -1 with errno. */
int inroot_open(int root_fd, const char *path, int flags);

/* What is there without symbolic links or "..": as an O_PATH descriptor that is not of the root itself. -1 with errno: ELOOP where it cannot be known. */
int inroot_open_below(int root_fd, const char *path);

/* Makes the directory and those above it where they are missing. An O_PATH descriptor, or -1. */
int inroot_mkdirs(int root_fd, const char *path, struct error *error);

/* A place to mount on: what is there, or a new directory or empty file. An O_PATH descriptor, or -1. */
int inroot_mount_point(int root_fd, const char *path, bool directory, struct error *error);

/* The directory of path, made where it is missing; *name is its last component. An O_PATH descriptor, or -1. */
int inroot_parent(int root_fd, const char *path, const char **name, struct error *error);

#endif
