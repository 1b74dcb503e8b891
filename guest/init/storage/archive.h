/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive: a process of a container that is no program of its root: it writes a part of the container to its standard output as a tar archive, or
 * extracts one from its standard input. Images need no tar for it.
 */
#ifndef RUNV_ARCHIVE_H
#define RUNV_ARCHIVE_H

#include "jsonget.h"

struct container;

enum archive_kind { ARCHIVE_NONE, ARCHIVE_GET, ARCHIVE_PUT, ARCHIVE_DIFF };

struct archive {
	enum archive_kind kind;
	const char *path; /* lives as long as the request */
};

/* What "archive" of a process says; nothing, for most. */
int archive_parse(const struct node *process, struct archive *archive, struct error *error);

/* In the guest's own namespaces, for a "diff": the directory that has what the container has changed. */
int archive_open_upper(const struct node *oci, struct error *error);

/* In the container, as its root. Ends with status 0; 1 and a line on the standard error; or 2, likewise, where the path is not there. */
_Noreturn void archive_main(const struct archive *archive, const struct node *oci, int upper_fd);

#endif
