/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jsonget: typed access to JSON whose errors name the member by its whole path. A node lives on the stack of the function that reads it and
 * points at the node it came from, which is how the path is known without being stored.
 */
#ifndef RUNV_JSONGET_H
#define RUNV_JSONGET_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "error.h"

enum { JSON_VALUES_MAX = 65536, JSON_DEPTH_MAX = 64 };

struct node {
	const json_t *json;
	const struct node *up;
	const char *name; /* NULL: an element, see index */
	size_t index;
};

/* Kind "invalid": "<path>.<member> <what>"; member may be NULL. Always returns -1. */
int node_fail(const struct node *node, const char *member, struct error *error, const char *what);

/* get_*: the member must be there. opt_*: *out is left alone where the member is absent or null. 0 or -1. */
int get_str(const struct node *node, const char *member, const char **out, struct error *error);
int opt_str(const struct node *node, const char *member, const char **out, struct error *error);
int get_int(const struct node *node, const char *member, int64_t min, int64_t max, int64_t *out, struct error *error);
int opt_int(const struct node *node, const char *member, int64_t min, int64_t max, int64_t *out, struct error *error);
int opt_bool(const struct node *node, const char *member, bool *out, struct error *error);
/* An unsigned number of 64 bits. See json_prepare for how those above 2^63 are kept. */
int get_u64(const struct node *node, const char *member, uint64_t *out, struct error *error);
int opt_u64(const struct node *node, const char *member, uint64_t *out, struct error *error);

/* 1: there, out is set. 0: absent or null, out is an empty node of which every member is absent. -1: another type. */
int opt_object(const struct node *node, const char *member, struct node *out, struct error *error);
int opt_array(const struct node *node, const char *member, struct node *out, struct error *error);
int get_object(const struct node *node, const char *member, struct node *out, struct error *error);

bool has_member(const struct node *node, const char *member);
size_t array_len(const struct node *node);
/* The element as an object or a string. 0 or -1 */
int array_object(const struct node *node, size_t index, struct node *out, struct error *error);
int array_str(const struct node *node, size_t index, const char **out, struct error *error);
int array_int(const struct node *node, size_t index, int64_t min, int64_t max, int64_t *out, struct error *error);

/*
 * Parses a frame. The text is checked and changed in place first: the number of values and the depth are bounded, because a parser that
 * allocates for each of four million empty arrays would eat the guest's memory; and integers from 2^63 to 2^64-1, which OCI uses for
 * "unlimited" and jansson refuses, are rewritten as the negative number with the same bits. NULL: not JSON, not an object or too large.
 */
json_t *json_parse(char *text, size_t len);

/* A JSON string of any bytes: what is not UTF-8 becomes '?'. NULL: out of memory. */
json_t *json_text(const char *text, size_t len);

#endif
