/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: an error of the protocol as a value. It is made where the cause is known and travels up unchanged; functions that can fail take one
 * as their last argument and return -1.
 */
#ifndef RUNV_ERROR_H
#define RUNV_ERROR_H

#include <stdarg.h>
#include <stddef.h>

enum error_kind {
	KIND_INVALID,
	KIND_DENIED,
	KIND_UNSUPPORTED,
	KIND_NOT_FOUND,
	KIND_EXISTS,
	KIND_STATE,
	KIND_BUSY,
	KIND_FAILED,
	KIND_COUNT,
};

enum { ERROR_TEXT_MAX = 1024 };

struct error {
	enum error_kind kind;
	int errnum; /* 0: none */
	char text[ERROR_TEXT_MAX];
};

const char *error_kind_name(enum error_kind kind);

/* Sets the error; always returns -1, so that a caller can return it. */
int error_set(struct error *error, enum error_kind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Kind "failed": the text, a colon, and the kernel's reason in lower case. Always returns -1. */
int error_sys(struct error *error, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The text of an errno as runc writes it: "no such file or directory". */
void errno_text(int errnum, char *text, size_t size);

#endif
