/* SPDX-License-Identifier: Apache-2.0 */
#include "seccomp_built.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 2 * sizeof(struct sock_filter) };

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode(const char *text, unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -1;
		bytes[i] = (unsigned char)(high << 4 | low);
	}
	return 0;
}

int seccomp_built(const struct node *seccomp, struct seccomp_program *program, struct error *error)
{
	const char *text = NULL;
	int64_t flags = 0;
	size_t len;

	if (opt_str(seccomp, "program", &text, error) < 0 || opt_int(seccomp, "programFlags", 0, UINT32_MAX, &flags, error) < 0)
		return -1;
	if (!text)
		return 0;
	len = strlen(text);
	if (!len || len % DIGITS || len / DIGITS > BPF_MAXINSNS)
		return node_fail(seccomp, "program", error, "has a wrong length");
	program->filter.filter = malloc(len / 2);
	if (!program->filter.filter)
		return error_sys(error, ENOMEM, "cannot make a seccomp filter");
	if (decode(text, (unsigned char *)program->filter.filter, len / 2) < 0) {
		free(program->filter.filter);
		program->filter.filter = NULL;
		return node_fail(seccomp, "program", error, "must be hexadecimal");
	}
	program->filter.len = (unsigned short)(len / DIGITS);
	program->flags = (unsigned int)flags;
	return 1;
}
