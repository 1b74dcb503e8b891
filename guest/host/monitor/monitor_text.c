/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_continuation(uint8_t byte)
{
	return (byte & 0xc0) == 0x80;
}

/* Bytes that a character with this first byte has; 0: none begins so. */
static size_t sequence_length(uint8_t first)
{
	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte (Unicode, table 3-7). */
static bool second_fits(uint8_t first, uint8_t second)
{
	if (!is_continuation(second))
		return false;
	switch (first) {
	case 0xe0:
		return second >= 0xa0;
	case 0xed:
		return second <= 0x9f;
	case 0xf0:
		return second >= 0x90;
	case 0xf4:
		return second <= 0x8f;
	}
	return true;
}

/* The length of the character at text, or 0 where there is none. *begun: there may be one, if the bytes that are missing fit. */
static size_t character(const uint8_t *text, size_t len, bool *begun)
{
	size_t need = sequence_length(text[0]);

	*begun = false;
	if (need > 1 && len > 1 && !second_fits(text[0], text[1]))
		return 0;
	for (size_t i = 2; i < need && i < len; i++)
		if (!is_continuation(text[i]))
			return 0;
	*begun = need > len;
	return need > len ? 0 : need;
}

static bool is_plain(uint8_t byte)
{
	return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

static size_t escape(char *out, uint8_t byte)
{
	static const char digits[] = "0123456789abcdef";
	static const char special[] = "\"\\\n\r\t", names[] = "\"\\nrt";
	const char *found = memchr(special, byte, sizeof(special) - 1);

	out[0] = '\\';
	if (found != NULL) {
		out[1] = names[found - special];
		return 2;
	}
	memcpy(out + 1, "u00", 3);
	out[4] = digits[byte >> 4];
	out[5] = digits[byte & 15];
	return 6;
}

size_t text_json(char *out, const uint8_t *text, size_t len)
{
	char *at = out;
	bool begun;

	for (size_t i = 0; i < len;) {
		size_t take = 0;

		while (i + take < len && is_plain(text[i + take]))
			take++;
		if (take == 0 && text[i] >= 0x80)
			take = character(text + i, len - i, &begun);
		if (take > 0) {
			memcpy(at, text + i, take);
			at += take;
			i += take;
			continue;
		}
		if (text[i] >= 0x80) {
			memcpy(at, "\\ufffd", 6);
			at += 6;
		} else {
			at += escape(at, text[i]);
		}
		i++;
	}
	return (size_t)(at - out);
}

size_t text_whole(const uint8_t *text, size_t len)
{
	for (size_t back = 1; back <= 3 && back < len; back++) {
		bool begun;

		if (is_continuation(text[len - back]))
			continue;
		character(text + len - back, back, &begun);
		return begun ? len - back : len;
	}
	return len;
}

size_t text_time(char out[TEXT_TIME_ROOM], const struct timespec *when)
{
	struct tm tm = { 0 };
	int len;

	gmtime_r(&when->tv_sec, &tm);
	len = snprintf(out, TEXT_TIME_ROOM, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		       tm.tm_min, tm.tm_sec, when->tv_nsec);
	return len < 0 ? 0 : (size_t)len < TEXT_TIME_ROOM ? (size_t)len : TEXT_TIME_ROOM - 1;
}
