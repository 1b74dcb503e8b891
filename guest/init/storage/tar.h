/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar: the blocks of an archive, as POSIX.1-2001 ("pax") has them, and of GNU's forms those that are still met. Pure: bytes in, records out.
 */
#ifndef RUNV_TAR_H
#define RUNV_TAR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum {
	TAR_BLOCK = 512,
	TAR_PAX_MAX = 1 << 20, /* of an extended header, which holds an entry's attributes */
};

enum tar_type {
	TAR_FILE = '0', TAR_LINK = '1', TAR_SYMLINK = '2', TAR_CHAR = '3', TAR_BLOCK_DEVICE = '4', TAR_DIRECTORY = '5', TAR_FIFO = '6',
	TAR_PAX = 'x', TAR_PAX_GLOBAL = 'g', TAR_GNU_NAME = 'L', TAR_GNU_LINK = 'K',
};

struct tar_entry {
	char type;
	char path[PATH_MAX], link[PATH_MAX];
	unsigned int mode;
	uint64_t uid, gid, size; /* size: of what follows the header */
	unsigned int major, minor;
	struct timespec mtime;
};

#define TAR_XATTR "SCHILY.xattr."

/* Writes what of the entry fits into a header. What does not is for extended records, see tar_fits. */
void tar_write_header(const struct tar_entry *entry, unsigned char block[TAR_BLOCK]);
bool tar_name_fits(const char *name);
bool tar_number_fits(uint64_t number, size_t digits);

/* "<length> <key>=<value>\n". The length of it; it is written if it fits into size. */
size_t tar_write_record(char *out, size_t size, const char *key, const void *value, size_t len);

/* 1: an entry; 0: a block of zeros, with which an archive ends; -1: neither. */
int tar_read_header(const unsigned char block[TAR_BLOCK], struct tar_entry *entry);

struct tar_record {
	const char *key, *value; /* not terminated */
	size_t key_len, value_len;
};

/* Takes a record off the front of an extended header. 1: there was one; 0: the end; -1: it is broken. */
int tar_next_record(const char **at, size_t *left, struct tar_record *record);

/* Applies what a record says to the entry that follows. -1: it is broken, or cannot be honoured. */
int tar_apply_record(const struct tar_record *record, struct tar_entry *entry);

#endif
