/* SPDX-License-Identifier: Apache-2.0 */
#include "tar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ustar's fields */
enum {
	NAME_AT = 0, NAME_LEN = 100,
	MODE_AT = 100, UID_AT = 108, GID_AT = 116, ID_LEN = 8,
	SIZE_AT = 124, MTIME_AT = 136, LONG_LEN = 12,
	SUM_AT = 148, TYPE_AT = 156,
	LINK_AT = 157, LINK_LEN = 100,
	MAGIC_AT = 257,
	MAJOR_AT = 329, MINOR_AT = 337,
	PREFIX_AT = 345, PREFIX_LEN = 155,
};

bool tar_name_fits(const char *name)
{
	return strlen(name) <= NAME_LEN;
}

bool tar_number_fits(uint64_t number, size_t digits)
{
	return number < (uint64_t)1 << (3 * digits);
}

/* Octal, with a zero behind it; what does not fit is left to an extended record. */
static void put_number(unsigned char *field, size_t len, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%0*llo", (int)len - 1, (unsigned long long)(tar_number_fits(number, len - 1) ? number : 0));
	memcpy(field, text, len);
}

static unsigned int sum(const unsigned char block[TAR_BLOCK])
{
	unsigned int total = 0;

	for (size_t i = 0; i < TAR_BLOCK; i++)
		total += i >= SUM_AT && i < SUM_AT + 8 ? ' ' : block[i];
	return total;
}

void tar_write_header(const struct tar_entry *entry, unsigned char block[TAR_BLOCK])
{
	char text[16];

	memset(block, 0, TAR_BLOCK);
	memcpy(block + NAME_AT, entry->path, strnlen(entry->path, NAME_LEN));
	memcpy(block + LINK_AT, entry->link, strnlen(entry->link, LINK_LEN));
	put_number(block + MODE_AT, ID_LEN, entry->mode);
	put_number(block + UID_AT, ID_LEN, entry->uid);
	put_number(block + GID_AT, ID_LEN, entry->gid);
	put_number(block + SIZE_AT, LONG_LEN, entry->size);
	put_number(block + MTIME_AT, LONG_LEN, entry->mtime.tv_sec > 0 ? (uint64_t)entry->mtime.tv_sec : 0);
	put_number(block + MAJOR_AT, ID_LEN, entry->major);
	put_number(block + MINOR_AT, ID_LEN, entry->minor);
	block[TYPE_AT] = (unsigned char)entry->type;
	memcpy(block + MAGIC_AT, "ustar\00000", 8);
	snprintf(text, sizeof(text), "%06o", sum(block));
	memcpy(block + SUM_AT, text, 7);
	block[SUM_AT + 7] = ' ';
}

size_t tar_write_record(char *out, size_t size, const char *key, const void *value, size_t len)
{
	size_t rest = strlen(key) + len + 3, total = rest, digits;
	char text[24];

	/* The length counts itself. */
	do {
		digits = (size_t)snprintf(text, sizeof(text), "%zu", total);
		if (rest + digits == total)
			break;
		total = rest + digits;
	} while (true);
	if (total > size)
		return total;
	out += sprintf(out, "%s %s=", text, key);
	memcpy(out, value, len);
	out[len] = '\n';
	return total;
}

/* Octal among spaces, or, with the highest bit set, GNU's binary form. false: neither, or too large. */
static bool get_number(const unsigned char *field, size_t len, uint64_t *number)
{
	size_t i = 0;

	*number = 0;
	if (field[0] & 0x80) {
		*number = field[0] & 0x7f;
		for (i = 1; i < len; i++) {
			if (*number >> 55)
				return false;
			*number = *number << 8 | field[i];
		}
		return true;
	}
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		*number = *number << 3 | (uint64_t)(field[i] - '0');
	return i == len || field[i] == ' ' || field[i] == '\0';
}

static void get_text(const unsigned char *field, size_t len, char *text)
{
	len = strnlen((const char *)field, len);
	memcpy(text, field, len);
	text[len] = '\0';
}

static bool is_zero(const unsigned char block[TAR_BLOCK])
{
	for (size_t i = 0; i < TAR_BLOCK; i++) {
		if (block[i])
			return false;
	}
	return true;
}

int tar_read_header(const unsigned char block[TAR_BLOCK], struct tar_entry *entry)
{
	uint64_t mode, mtime, check, major = 0, minor = 0;
	char name[NAME_LEN + 1], prefix[PREFIX_LEN + 1] = "";

	memset(entry, 0, sizeof(*entry));
	if (is_zero(block))
		return 0;
	if (!get_number(block + SUM_AT, 8, &check) || check != sum(block))
		return -1;
	if (!get_number(block + MODE_AT, ID_LEN, &mode) || !get_number(block + UID_AT, ID_LEN, &entry->uid) ||
	    !get_number(block + GID_AT, ID_LEN, &entry->gid) || !get_number(block + SIZE_AT, LONG_LEN, &entry->size) ||
	    !get_number(block + MTIME_AT, LONG_LEN, &mtime))
		return -1;
	entry->type = block[TYPE_AT] == '\0' || block[TYPE_AT] == '7' ? TAR_FILE : (char)block[TYPE_AT];
	/* Of those before POSIX, nobody has filled these fields with anything. */
	if (memcmp(block + MAGIC_AT, "ustar", 5) == 0 &&
	    (!get_number(block + MAJOR_AT, ID_LEN, &major) || !get_number(block + MINOR_AT, ID_LEN, &minor)))
		return -1;
	/* GNU's has other things where POSIX has the prefix. */
	if (memcmp(block + MAGIC_AT, "ustar\0", 6) == 0)
		get_text(block + PREFIX_AT, PREFIX_LEN, prefix);
	get_text(block + NAME_AT, NAME_LEN, name);
	get_text(block + LINK_AT, LINK_LEN, entry->link);
	snprintf(entry->path, sizeof(entry->path), "%s%s%s", prefix, *prefix ? "/" : "", name);
	entry->mode = (unsigned int)mode & 07777;
	entry->major = (unsigned int)major;
	entry->minor = (unsigned int)minor;
	entry->mtime.tv_sec = (time_t)(mtime > INT64_MAX ? 0 : mtime);
	return 1;
}

int tar_next_record(const char **at, size_t *left, struct tar_record *record)
{
	size_t length = 0, used = 0;
	const char *equals;

	if (*left == 0)
		return 0;
	while (used < *left && used < 8 && (*at)[used] >= '0' && (*at)[used] <= '9')
		length = length * 10 + (size_t)((*at)[used++] - '0');
	if (used == 0 || used == *left || (*at)[used] != ' ' || length <= used + 1 || length > *left || (*at)[length - 1] != '\n')
		return -1;
	record->key = *at + used + 1;
	equals = memchr(record->key, '=', length - used - 2);
	if (!equals)
		return -1;
	record->key_len = (size_t)(equals - record->key);
	record->value = equals + 1;
	record->value_len = (size_t)(*at + length - 1 - record->value);
	*at += length;
	*left -= length;
	return 1;
}

static bool is_key(const struct tar_record *record, const char *key)
{
	return record->key_len == strlen(key) && memcmp(record->key, key, record->key_len) == 0;
}

static int record_text(const struct tar_record *record, char text[PATH_MAX])
{
	if (record->value_len >= PATH_MAX || memchr(record->value, '\0', record->value_len))
		return -1;
	memcpy(text, record->value, record->value_len);
	text[record->value_len] = '\0';
	return 0;
}

static int record_number(const struct tar_record *record, uint64_t *number)
{
	uint64_t value = 0;

	if (record->value_len == 0 || record->value_len > 19)
		return -1;
	for (size_t i = 0; i < record->value_len; i++) {
		if (record->value[i] < '0' || record->value[i] > '9')
			return -1;
		value = value * 10 + (uint64_t)(record->value[i] - '0');
	}
	*number = value;
	return 0;
}

/* Seconds, perhaps negative, perhaps with a fraction */
static int record_time(const struct tar_record *record, struct timespec *time)
{
	char text[64], *end;
	long scale = 100000000;

	if (record->value_len == 0 || record->value_len >= sizeof(text))
		return -1;
	memcpy(text, record->value, record->value_len);
	text[record->value_len] = '\0';
	time->tv_sec = strtoll(text, &end, 10);
	time->tv_nsec = 0;
	if (end == text || (*end && *end != '.'))
		return -1;
	for (end += *end == '.'; *end >= '0' && *end <= '9'; end++, scale /= 10)
		time->tv_nsec += scale * (*end - '0');
	return *end ? -1 : 0;
}

int tar_apply_record(const struct tar_record *record, struct tar_entry *entry)
{
	if (is_key(record, "path"))
		return record_text(record, entry->path);
	if (is_key(record, "linkpath"))
		return record_text(record, entry->link);
	if (is_key(record, "size"))
		return record_number(record, &entry->size);
	if (is_key(record, "uid"))
		return record_number(record, &entry->uid);
	if (is_key(record, "gid"))
		return record_number(record, &entry->gid);
	if (is_key(record, "mtime"))
		return record_time(record, &entry->mtime);
	/* Its data are not the file's. */
	return record->key_len > 11 && memcmp(record->key, "GNU.sparse.", 11) == 0 ? -1 : 0;
}
