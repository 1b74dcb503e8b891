/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "resident.h"

static bool number_argument(const char *text, uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && *value <= max;
}

static bool format_argument(const char *text, enum log_format *format)
{
	static const char *const names[] = { "none", "json-file", "cri" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(names[i], text) != 0)
			continue;
		*format = (enum log_format)i;
		return true;
	}
	return false;
}

enum choice { DIR_OPTION = 1, STATUS, TERMINAL, INPUT, INPUT_ONCE, EXEC, HOLD, LOG_FORMAT, LOG_PATH, LOG_SIZE, LOG_FILES, LABEL };

static bool option_argument(struct options *options, int option, const char *text)
{
	uint64_t files;

	switch (option) {
	case TERMINAL:
		return options->terminal = true;
	case INPUT_ONCE:
		return options->input = options->input_once = true;
	case INPUT:
		return options->input = true;
	case EXEC:
		return options->exec = true;
	case HOLD:
		return options->exec = options->hold = true;
	case LOG_FORMAT:
		return format_argument(text, &options->log_format);
	case LOG_PATH:
		options->log_path = text;
		return *text == '/';
	case LOG_SIZE:
		return number_argument(text, INT64_MAX, &options->log_size);
	case LOG_FILES:
		if (!number_argument(text, 1000, &files) || files == 0)
			return false;
		options->log_files = (unsigned int)files;
		return true;
	}
	return option == LABEL;
}

bool options_parse(struct options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{ "dir", required_argument, NULL, DIR_OPTION },
		{ "status-fd", required_argument, NULL, STATUS },
		{ "terminal", no_argument, NULL, TERMINAL },
		{ "stdin", no_argument, NULL, INPUT },
		{ "stdin-once", no_argument, NULL, INPUT_ONCE },
		{ "exec", no_argument, NULL, EXEC },
		{ "hold", no_argument, NULL, HOLD },
		{ "log-format", required_argument, NULL, LOG_FORMAT },
		{ "log-path", required_argument, NULL, LOG_PATH },
		{ "log-max-size", required_argument, NULL, LOG_SIZE },
		{ "log-max-files", required_argument, NULL, LOG_FILES },
		{ "label", required_argument, NULL, LABEL }, /* for those who read ps */
		{ 0 },
	};
	int option;

	*options = (struct options){ .status_fd = -1, .log_files = 1 };
	while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1) {
		if (option == DIR_OPTION)
			options->folder = optarg;
		else if (option == STATUS)
			options->status_fd = resident_fd_argument(optarg);
		else if (!option_argument(options, option, optarg))
			return false;
	}
	options->command = argv + optind;
	return options->folder != NULL && options->status_fd >= 0 && optind < argc && (options->log_format == LOG_NONE || options->log_path != NULL);
}
