/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor_log: the log of a container, as Docker's json-file or as kubelet reads it (CRI), rotated by size.
 *
 * A file holds whole entries only, whatever goes wrong: one that could not be written is counted, and what there is of it taken back. An entry is a line,
 * or LOG_LINE_MAX bytes of one that is longer.
 */
#ifndef RUNV_MONITOR_LOG_H
#define RUNV_MONITOR_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOG_STREAMS = 2, LOG_LINE_MAX = 16384, LOG_OUT = 100 << 10 /* more than a line can become */ };

enum log_format { LOG_NONE, LOG_JSON, LOG_CRI };

struct log_line {
	uint8_t data[LOG_LINE_MAX];
	size_t len;
};

struct log {
	enum log_format format;
	const char *path; /* of the current file; older ones are path.1, path.2, ... */
	uint64_t max_size; /* bytes of one file; 0: it is never rotated */
	unsigned int max_files; /* with the current one */
	int fd; /* -1: none */
	bool torn; /* the file ends within an entry */
	uint64_t size;
	struct log_line lines[LOG_STREAMS]; /* what has come of the line that has not ended yet */
	char out[LOG_OUT];
	size_t out_len;
	uint64_t lost; /* entries that could not be written */
	int error; /* why the last of them could not, or why the log is not rotated; -errno */
};

/* 0 or -errno. Format, path, size and files are set already; a log without a format is nothing. */
int log_open(struct log *log);

/* What a stream (0: stdout, 1: stderr) has said. Never fails: see lost. */
void log_write(struct log *log, int stream, const uint8_t *data, size_t len);

/* No more will come: lines that have not ended are written as they are. */
void log_end(struct log *log);

/* Goes on in a file that is at the path now: somebody has moved the other away. 0, or -errno, and the old one is kept. */
int log_reopen(struct log *log);

void log_close(struct log *log);

#endif
