/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rootfs: a container's view of the file system, made by PID 1's child in its new mount namespace. All of it works on descriptors and
 * inroot's paths while the guest's own root is still there, and only the last step, pivot_root, goes in.
 */
#ifndef RUNV_ROOTFS_H
#define RUNV_ROOTFS_H

#include "spawn.h"

struct rootfs {
	const struct spawn *spawn;
	const struct node *oci;
	const struct node *linux_node;
	int root_fd; /* the container's root: a mount of its own */
	int proc_fd; /* the guest's /proc, which no container can have tampered with */
	bool own_dev; /* /dev is a bind mount: what is in it is the caller's business */
	int tty_master, tty_slave;
};

/* Everything up to and including pivot_root. */
int rootfs_setup(struct rootfs *rootfs, struct error *error);

/* mounts.c */
int mounts_apply(struct rootfs *rootfs, struct error *error);

/* devices.c */
int devices_make(struct rootfs *rootfs, struct error *error);

/* paths.c */
int paths_protect(int root_fd, const struct node *linux_node, struct error *error);

/* terminal.c: a new pseudo terminal of the container's own; with console, its slave is also mounted on /dev/console. */
int terminal_open(int root_fd, const struct node *process, int *master, int *slave, struct error *error);
int terminal_console(int root_fd, int slave, struct error *error);
/* The slave becomes the controlling terminal of a new session. */
int terminal_adopt(int slave, struct error *error);

#endif
