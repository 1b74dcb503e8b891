/* SPDX-License-Identifier: Apache-2.0 */
/* mount_options: the option words of OCI mounts, sorted into what the kernel's calls want. No system calls here. */
#ifndef RUNV_MOUNT_OPTIONS_H
#define RUNV_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "jsonget.h"

enum { MOUNT_DATA_MAX = 4096 };

struct mount_options {
	bool bind, recursive;
	bool copy_up;
	bool populate;                 /* a volume, if it is empty, is filled as by copy_up */
	bool grow;                     /* its file system takes all of the disk */
	const char *subpath;           /* NULL, or what in the file system is mounted; lives as long as the request */
	bool remount;                  /* what is mounted there is changed */
	unsigned long flags;           /* MS_* for mount(2) of a new file system */
	uint64_t set, clear;           /* MOUNT_ATTR_* for mount_setattr on a bind */
	uint64_t all_set, all_clear;   /* the same, from words like "rro": with everything below */
	bool idmap;                    /* its ids are mapped, as by the user namespace id_namespace */
	int id_namespace;
	unsigned long propagation[8];  /* MS_SHARED and so on, with MS_REC, in order */
	unsigned int propagation_count;
	char data[MOUNT_DATA_MAX];     /* the other words, for the file system */
};

int mount_options_parse(const struct node *mount, struct mount_options *options, struct error *error);

/* MS_SHARED, MS_SLAVE ... with MS_REC for a word like "rslave"; 0: it is none of them. */
unsigned long mount_propagation(const char *word);

#endif
