/* SPDX-License-Identifier: Apache-2.0 */
/* mounts: one of OCI's mounts, parsed, and what every kind of them needs. */
#ifndef RUNV_MOUNTS_H
#define RUNV_MOUNTS_H

#include "mount_options.h"

struct mount_request {
	const char *destination, *source, *type;
	struct mount_options options;
};

int mount_parse(const struct node *entry, struct mount_request *request, struct error *error);

/* The error of a mount that the kernel refused. Always -1. */
int mount_fail(const struct mount_request *request, int errnum, struct error *error);

/* The attributes of a mount, as the options have them. -1 with errno */
int mount_set_attr(int fd, const struct mount_options *options);

/* The mount point, made where it is missing; never the root itself. An O_PATH descriptor, or -1. */
int mount_target(int root_fd, const struct mount_request *request, bool directory, struct error *error);

/* mount(2). 1: mounted, but not read-only, which the mount still has to be made. -1 with errno */
int mount_file_system(const char *source, const char *target, const char *type, unsigned long flags, const char *data);

int mount_attach(int tree_fd, int target_fd);

#endif
