/* SPDX-License-Identifier: Apache-2.0 */
/* monitor_folder: the files and sockets of one monitor (docs/streams.md, "The folder"). All names are relative to a descriptor of the folder. */
#ifndef RUNV_MONITOR_FOLDER_H
#define RUNV_MONITOR_FOLDER_H

#include <stddef.h>
#include <sys/types.h>

enum { FOLDER_EXIT_MAX = 1024 };

/* Takes the folder for this monitor alone and removes what an earlier one has left. 0 or -errno (-EWOULDBLOCK: another one has it). */
int folder_take(int folder);

/* A listening stream socket that only our user may connect to; or -errno. */
int folder_listen(int folder, const char *name);

/* The descriptor that somebody has sent to a listening socket, or -errno. It does not wait: -EAGAIN when nobody has. */
int folder_receive(int listener);

/* A whole file or none. 0 or -errno. */
int folder_write(int folder, const char *name, const char *text, size_t len);

/* A pid with its start time, as runv writes it. 0 or -errno. */
int folder_write_identity(int folder, const char *name, pid_t pid);

/* The pid in a file; or -errno, -EINVAL when there is none in it. */
pid_t folder_read_pid(int folder, const char *name);

/* Sets room aside for the exit file, so that a full disk does not cost it; later fills it and gives it its name. 0 or -errno. */
int folder_reserve_exit(int folder);
int folder_write_exit(int folder, const char *text, size_t len);

#endif
