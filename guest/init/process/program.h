/* SPDX-License-Identifier: Apache-2.0 */
/* program: what is executed: arguments, environment, and where the file is. */
#ifndef RUNV_PROGRAM_H
#define RUNV_PROGRAM_H

#include <limits.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "jsonget.h"

struct program {
	char **args;
	char **env;
	char path[PATH_MAX];
	int held_fd; /* the file at path, as it was when it was found; -1: it is not held */
	struct stat found;
};

/* The array of strings, with room for extra ones and ended by NULL; the caller's to free, the strings are not. NULL: see error. */
char **program_strings(const struct node *node, const char *member, size_t extra, struct error *error);

/* Reads args and env. HOME comes from the container's /etc/passwd where the caller gave none. */
int program_parse(const struct node *process, uid_t uid, struct program *program, struct error *error);

/* Finds args[0] as the user who will run it, with the errors of runc: exec: "x": executable file not found in $PATH. */
int program_lookup(struct program *program, struct error *error);

/*
 * To be called before it is executed. What nobody holds of a share is forgotten, so the file is held from program_lookup on, and its path need not be walked
 * again; unless another one is there by now, as a look at it tells, which is one question to the host instead of a dozen.
 */
void program_hold(struct program *program);

#endif
