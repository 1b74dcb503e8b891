/* SPDX-License-Identifier: Apache-2.0 */
/* monitor_text: bytes of a container as text of JSON, and times as logs have them. No I/O. */
#ifndef RUNV_MONITOR_TEXT_H
#define RUNV_MONITOR_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum {
	TEXT_JSON_FACTOR = 6, /* bytes of text that one byte may become */
	TEXT_TIME = sizeof("2006-01-02T15:04:05.999999999Z") - 1,
	TEXT_TIME_ROOM = 80, /* for a year that only a broken clock has */
};

/*
 * Writes the inside of a JSON string, for which out has TEXT_JSON_FACTOR * len of room. What is no UTF-8 becomes U+FFFD, byte for byte, as Docker does it.
 * Returns the length.
 */
size_t text_json(char *out, const uint8_t *text, size_t len);

/* How much of text may be taken without parting the bytes of a character that has only begun at its end. 0 only for an empty one. */
size_t text_whole(const uint8_t *text, size_t len);

/* RFC 3339 in UTC with nine digits, so that texts sort as the times do. Returns the length. */
size_t text_time(char out[TEXT_TIME_ROOM], const struct timespec *when);

#endif
