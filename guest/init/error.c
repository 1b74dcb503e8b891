/* SPDX-License-Identifier: Apache-2.0 */
#include "error.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_names[KIND_COUNT] = {
	[KIND_INVALID] = "invalid",
	[KIND_DENIED] = "denied",
	[KIND_UNSUPPORTED] = "unsupported",
	[KIND_NOT_FOUND] = "not-found",
	[KIND_EXISTS] = "exists",
	[KIND_STATE] = "state",
	[KIND_BUSY] = "busy",
	[KIND_FAILED] = "failed",
};

const char *error_kind_name(enum error_kind kind)
{
	return (unsigned int)kind < KIND_COUNT ? kind_names[kind] : "failed";
}

void errno_text(int errnum, char *text, size_t size)
{
	snprintf(text, size, "%s", strerror(errnum));
	/* "RPC ..." stays, "No such ..." becomes "no such ...": engines search for the words that Go's runtime writes. */
	if (size > 1 && isupper((unsigned char)text[0]) && !isupper((unsigned char)text[1]))
		text[0] = (char)tolower((unsigned char)text[0]);
}

/* A text that was cut may end within a character, and would then not be JSON. */
static void trim_utf8(char *text)
{
	size_t len = strlen(text), tail = 0;

	while (tail < len && tail < 4 && ((unsigned char)text[len - 1 - tail] & 0xc0) == 0x80)
		tail++;
	if (tail < len) {
		unsigned char lead = (unsigned char)text[len - 1 - tail];
		size_t want = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;

		if (tail < want)
			text[len - 1 - tail] = '\0';
	}
}

int error_set(struct error *error, enum error_kind kind, const char *format, ...)
{
	va_list args;

	error->kind = kind;
	error->errnum = 0;
	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	trim_utf8(error->text);
	return -1;
}

int error_sys(struct error *error, int errnum, const char *format, ...)
{
	char reason[128];
	va_list args;
	size_t len;

	error->kind = KIND_FAILED;
	error->errnum = errnum;
	errno_text(errnum, reason, sizeof(reason));
	va_start(args, format);
	/* The reason matters most: it must survive a name that is too long. */
	vsnprintf(error->text, sizeof(error->text) - sizeof(reason) - 4, format, args);
	va_end(args);
	trim_utf8(error->text);
	len = strlen(error->text);
	snprintf(error->text + len, sizeof(error->text) - len, ": %s", reason);
	return -1;
}
