/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonget.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"

/* Writes the path of a node, outermost first; returns how much of the buffer is used. */
static size_t node_path(const struct node *node, char *path, size_t size)
{
	size_t used = node->up ? node_path(node->up, path, size) : 0;
	int n;

	if (used >= size)
		return used;
	if (node->name)
		n = snprintf(path + used, size - used, "%s%s", used ? "." : "", node->name);
	else if (node->up)
		n = snprintf(path + used, size - used, "[%zu]", node->index);
	else
		n = 0;
	return used + (n > 0 ? (size_t)n : 0);
}

int node_fail(const struct node *node, const char *member, struct error *error, const char *what)
{
	char path[256] = "";

	node_path(node, path, sizeof(path));
	return error_set(error, KIND_INVALID, "%s%s%s %s", path, member && path[0] ? "." : "", member ? member : "", what);
}

static const json_t *find(const struct node *node, const char *member)
{
	const json_t *value = json_object_get(node->json, member);

	return json_is_null(value) ? NULL : value;
}

bool has_member(const struct node *node, const char *member)
{
	return find(node, member) != NULL;
}

int opt_str(const struct node *node, const char *member, const char **out, struct error *error)
{
	const json_t *value = find(node, member);

	if (!value)
		return 0;
	if (!json_is_string(value))
		return node_fail(node, member, error, "must be a string");
	*out = json_string_value(value);
	return 0;
}

int get_str(const struct node *node, const char *member, const char **out, struct error *error)
{
	if (!has_member(node, member))
		return node_fail(node, member, error, "is missing");
	return opt_str(node, member, out, error);
}

static int range_fail(const struct node *node, const char *member, int64_t min, int64_t max, struct error *error)
{
	char what[80];

	snprintf(what, sizeof(what), "must be an integer from %" PRId64 " to %" PRId64, min, max);
	return node_fail(node, member, error, what);
}

int opt_int(const struct node *node, const char *member, int64_t min, int64_t max, int64_t *out, struct error *error)
{
	const json_t *value = find(node, member);

	if (!value)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max)
		return range_fail(node, member, min, max, error);
	*out = json_integer_value(value);
	return 0;
}

int get_int(const struct node *node, const char *member, int64_t min, int64_t max, int64_t *out, struct error *error)
{
	if (!has_member(node, member))
		return node_fail(node, member, error, "is missing");
	return opt_int(node, member, min, max, out, error);
}

int opt_u64(const struct node *node, const char *member, uint64_t *out, struct error *error)
{
	int64_t value = (int64_t)*out;

	if (opt_int(node, member, INT64_MIN, INT64_MAX, &value, error) < 0)
		return -1;
	*out = (uint64_t)value;
	return 0;
}

int get_u64(const struct node *node, const char *member, uint64_t *out, struct error *error)
{
	int64_t value = 0;

	if (get_int(node, member, INT64_MIN, INT64_MAX, &value, error) < 0)
		return -1;
	*out = (uint64_t)value;
	return 0;
}

int opt_bool(const struct node *node, const char *member, bool *out, struct error *error)
{
	const json_t *value = find(node, member);

	if (!value)
		return 0;
	if (!json_is_boolean(value))
		return node_fail(node, member, error, "must be true or false");
	*out = json_is_true(value);
	return 0;
}

static struct node child(const struct node *node, const char *member, const json_t *value)
{
	return (struct node){ .json = value, .up = node, .name = member };
}

int opt_object(const struct node *node, const char *member, struct node *out, struct error *error)
{
	const json_t *value = find(node, member);

	*out = child(node, member, value);
	if (!value)
		return 0;
	if (!json_is_object(value))
		return node_fail(node, member, error, "must be an object");
	return 1;
}

int get_object(const struct node *node, const char *member, struct node *out, struct error *error)
{
	int found = opt_object(node, member, out, error);

	if (found == 0)
		return node_fail(node, member, error, "is missing");
	return found < 0 ? -1 : 0;
}

int opt_array(const struct node *node, const char *member, struct node *out, struct error *error)
{
	const json_t *value = find(node, member);

	*out = child(node, member, value);
	if (!value)
		return 0;
	if (!json_is_array(value))
		return node_fail(node, member, error, "must be an array");
	return 1;
}

size_t array_len(const struct node *node)
{
	return json_array_size(node->json);
}

static struct node element(const struct node *node, size_t index)
{
	return (struct node){ .json = json_array_get(node->json, index), .up = node, .index = index };
}

int array_object(const struct node *node, size_t index, struct node *out, struct error *error)
{
	*out = element(node, index);
	if (!json_is_object(out->json))
		return node_fail(out, NULL, error, "must be an object");
	return 0;
}

int array_str(const struct node *node, size_t index, const char **out, struct error *error)
{
	struct node item = element(node, index);

	if (!json_is_string(item.json))
		return node_fail(&item, NULL, error, "must be a string");
	*out = json_string_value(item.json);
	return 0;
}

int array_int(const struct node *node, size_t index, int64_t min, int64_t max, int64_t *out, struct error *error)
{
	struct node item = element(node, index);

	if (!json_is_integer(item.json) || json_integer_value(item.json) < min || json_integer_value(item.json) > max)
		return range_fail(&item, NULL, min, max, error);
	*out = json_integer_value(item.json);
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Rewrites the integer at text[at] if it needs 64 bits unsigned. Returns the offset after it. */
static size_t fold_integer(char *text, size_t len, size_t at)
{
	char digits[24], folded[24];
	size_t n = 0;
	uint64_t value;

	while (at + n < len && is_digit(text[at + n]))
		n++;
	if (n < 19 || n > 20 || (at + n < len && strchr(".eE", text[at + n])) || (at > 0 && strchr("-+.eE", text[at - 1])))
		return at + n;
	memcpy(digits, text + at, n);
	digits[n] = '\0';
	errno = 0;
	value = strtoull(digits, NULL, 10);
	if (errno || value <= INT64_MAX)
		return at + n;
	snprintf(folded, sizeof(folded), "%" PRId64, (int64_t)value);
	/* Some of the 19 digits need one more with the sign. They mean nothing to OCI and stay what they are: refused by the parser. */
	if (strlen(folded) <= n) {
		memset(text + at, ' ', n);
		memcpy(text + at, folded, strlen(folded));
	}
	return at + n;
}

/* The offset after the string that begins at text[at]. */
static size_t skip_string(const char *text, size_t len, size_t at)
{
	for (at++; at < len && text[at] != '"'; at++) {
		if (text[at] == '\\')
			at++;
	}
	return at + 1;
}

static bool prepare(char *text, size_t len)
{
	size_t values = 0, depth = 0, at = 0;

	while (at < len) {
		char c = text[at];

		if (c == '"') {
			at = skip_string(text, len, at);
			continue;
		}
		if (is_digit(c)) {
			at = fold_integer(text, len, at);
			continue;
		}
		if (c == '[' || c == '{') {
			depth++;
			values++;
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		} else if (c == ',') {
			values++;
		}
		if (depth > JSON_DEPTH_MAX || values > JSON_VALUES_MAX)
			return false;
		at++;
	}
	return true;
}

json_t *json_parse(char *text, size_t len)
{
	json_t *json;

	if (!prepare(text, len))
		return NULL;
	json = json_loadb(text, len, 0, NULL);
	if (json && !json_is_object(json)) {
		json_decref(json);
		return NULL;
	}
	return json;
}

/* The length of the UTF-8 character at text, 0 where there is none. */
static size_t utf8_len(const unsigned char *text, size_t len)
{
	size_t want = text[0] < 0x80 ? 1 : text[0] >= 0xc2 && text[0] < 0xe0 ? 2 : (text[0] & 0xf0) == 0xe0 ? 3 :
		      text[0] >= 0xf0 && text[0] < 0xf5 ? 4 : 0;

	if (want == 0 || want > len)
		return 0;
	for (size_t i = 1; i < want; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong forms, surrogates and what lies above U+10FFFF */
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
	    (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return want;
}

json_t *json_text(const char *text, size_t len)
{
	cleanup_free char *clean = malloc(len + 1);
	size_t at = 0;

	if (!clean)
		return NULL;
	memcpy(clean, text, len);
	while (at < len) {
		size_t n = utf8_len((unsigned char *)clean + at, len - at);

		if (n == 0 || clean[at] == '\0')
			clean[at] = '?';
		at += n ? n : 1;
	}
	return json_stringn(clean, len);
}
