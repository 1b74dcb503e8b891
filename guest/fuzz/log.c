/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the log: bytes of both streams in pieces of any size. Each file must hold whole entries, none longer than it may be. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "monitor_log.h"
#include "monitor_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *path, bool json)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (file == NULL)
		return;
	while ((len = getline(&line, &room, file)) > 0) {
		json_t *entry;

		if (line[len - 1] != '\n')
			abort();
		if (!json)
			continue;
		entry = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);
		if (!json_is_string(json_object_get(entry, "log")) || json_string_length(json_object_get(entry, "log")) > 3 * LOG_LINE_MAX + 1)
			abort();
		json_decref(entry);
	}
	free(line);
	fclose(file);
}

/* Byte 0: the format, the limit, and the size of the pieces */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct log log;
	char path[64], old[80];
	size_t piece;
	bool json;

	if (size < 1)
		return 0;
	json = data[0] & 1;
	piece = 1 + (data[0] >> 2) * 300u;
	snprintf(path, sizeof(path), "/dev/shm/fuzz-log-%d", (int)getpid());
	snprintf(old, sizeof(old), "%s.1", path);
	memset(&log, 0, sizeof(log));
	log.format = json ? LOG_JSON : LOG_CRI;
	log.path = path;
	log.max_size = data[0] & 2 ? 2000 : 0;
	log.max_files = 2;
	if (log_open(&log) < 0)
		abort();
	for (size_t at = 1; at < size; at += piece) {
		size_t len = size - at < piece ? size - at : piece;
		/* Long lines, from a short input. */
		int times = data[at] == 0xff ? 300 : 1;

		while (times-- > 0)
			log_write(&log, data[at] & 1, data + at, len);
	}
	log_end(&log);
	if (log.lost > 0 || log.error < 0)
		abort();
	log_close(&log);
	check(path, json);
	check(old, json);
	unlink(path);
	unlink(old);
	return 0;
}
