/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runv-filter: makes a seccomp filter of a profile, on the host, where that takes milliseconds. The code is the guest's own.
 *
 *   stdin   {"seccomp": {<OCI linux.seccomp>}}
 *   stdout  {"program": "<hex>", "programFlags": n}, as the agent takes it in the profile's place; {} where the profile is none
 *
 * Ends with 1 and a line on stderr where the profile is wrong: the guest then says so in its own words.
 */
#include <stdio.h>
#include <stdlib.h>

#include "seccomp.h"

enum { TEXT_MAX = 4 << 20 };

static json_t *read_profile(void)
{
	char *text = malloc(TEXT_MAX);
	size_t len = text ? fread(text, 1, TEXT_MAX, stdin) : 0;
	json_t *json = len ? json_parse(text, len) : NULL;

	free(text);
	return json;
}

static void write_program(const struct seccomp_program *program)
{
	const unsigned char *bytes = (const unsigned char *)program->filter.filter;

	printf("{\"programFlags\":%u,\"program\":\"", program->flags);
	for (size_t i = 0; i < program->filter.len * sizeof(*program->filter.filter); i++)
		printf("%02x", bytes[i]);
	puts("\"}");
}

int main(void)
{
	struct seccomp_program program;
	struct node node = { .json = read_profile(), .name = "linux" };
	struct error error;

	if (!node.json) {
		fputs("runv-filter: not a profile\n", stderr);
		return 1;
	}
	if (seccomp_build(&node, &program, &error) < 0) {
		fprintf(stderr, "runv-filter: %s\n", error.text);
		return 1;
	}
	if (program.filter.len)
		write_program(&program);
	else
		puts("{}");
	free(program.filter.filter);
	json_decref((json_t *)node.json);
	return fflush(stdout) == 0 ? 0 : 1;
}
