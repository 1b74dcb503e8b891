/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup: resources that end with their scope, so that every error path is a plain return. */
#ifndef RUNV_CLEANUP_H
#define RUNV_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <jansson.h>

static inline void cleanup_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_filep(FILE **file)
{
	if (*file)
		fclose(*file);
}

static inline void cleanup_dirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static inline void cleanup_jsonp(json_t **json)
{
	json_decref(*json);
}

#define cleanup_close __attribute__((cleanup(cleanup_closep)))
#define cleanup_free __attribute__((cleanup(cleanup_freep)))
#define cleanup_file __attribute__((cleanup(cleanup_filep)))
#define cleanup_dir __attribute__((cleanup(cleanup_dirp)))
#define cleanup_json __attribute__((cleanup(cleanup_jsonp)))

/* Hands a descriptor on: the scope that held it no longer closes it. */
static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif
