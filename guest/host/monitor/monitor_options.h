/* SPDX-License-Identifier: Apache-2.0 */
/* monitor_options: the command line of runv-monitor. */
#ifndef RUNV_MONITOR_OPTIONS_H
#define RUNV_MONITOR_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor_log.h"

struct options {
	const char *folder;
	int status_fd;
	bool terminal, input, input_once;
	bool exec; /* the process runs already when the command ends */
	bool hold; /* output waits for the first client */
	enum log_format log_format;
	const char *log_path;
	uint64_t log_size;
	unsigned int log_files;
	char *const *command;
};

/* False: it cannot be understood. */
bool options_parse(struct options *options, int argc, char **argv);

#endif
