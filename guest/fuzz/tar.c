/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the blocks of an archive: a header, the records that follow it, and whether what is written of them is read as the same. */
#include <stdlib.h>
#include <string.h>

#include "tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The sum is seldom right by chance. */
static void fix_sum(unsigned char block[TAR_BLOCK])
{
	unsigned int total = 8 * ' ';

	for (size_t i = 0; i < TAR_BLOCK; i++)
		total += i < 148 || i >= 156 ? block[i] : 0;
	for (int i = 5; i >= 0; i--, total >>= 3)
		block[148 + i] = (unsigned char)('0' + (total & 7));
	block[154] = '\0';
}

static void read_records(const char *at, size_t left, struct tar_entry *entry)
{
	struct tar_record record;
	const char *end = at + left;

	while (tar_next_record(&at, &left, &record) > 0) {
		if (record.key + record.key_len >= record.value || record.value + record.value_len >= end)
			abort();
		(void)tar_apply_record(&record, entry);
	}
	if (strnlen(entry->path, PATH_MAX) == PATH_MAX || strnlen(entry->link, PATH_MAX) == PATH_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char block[TAR_BLOCK];
	struct tar_entry entry, again;
	char record[128];
	size_t len;

	if (size < TAR_BLOCK)
		return 0;
	memcpy(block, data, TAR_BLOCK);
	fix_sum(block);
	if (tar_read_header(block, &entry) < 0)
		return 0;
	read_records((const char *)data + TAR_BLOCK, size - TAR_BLOCK, &entry);
	tar_write_header(&entry, block);
	if (tar_read_header(block, &again) != 1 || again.mode != entry.mode || (tar_number_fits(entry.size, 11) && again.size != entry.size))
		abort();
	if (tar_name_fits(entry.path) && strcmp(entry.path, again.path) != 0)
		abort();
	len = tar_write_record(record, sizeof(record), "path", entry.path, strlen(entry.path));
	if (len <= sizeof(record)) {
		memset(&again, 0, sizeof(again));
		read_records(record, len, &again);
		if (strcmp(entry.path, again.path) != 0)
			abort();
	}
	return 0;
}
