/* SPDX-License-Identifier: Apache-2.0 */
/* The program that is run in containers, and on the host at the other end of a network. */
#include "probe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static unsigned int number(const char *text)
{
	return (unsigned int)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
	int result;

	if (argc == 5 && strcmp(argv[1], "files") == 0) {
		mkdir(argv[2], 0755);
		result = probe_files(stdout, argv[2], number(argv[3]), number(argv[4]));
	} else if (argc == 3 && strcmp(argv[1], "serve") == 0) {
		result = probe_serve((uint16_t)number(argv[2]));
	} else if (argc == 6 && strcmp(argv[1], "client") == 0) {
		result = probe_client(stdout, argv[2], (uint16_t)number(argv[3]), number(argv[4]), number(argv[5]));
	} else {
		fputs("usage: probe files FOLDER MEGABYTES COUNT | serve PORT | client ADDRESS PORT MEGABYTES COUNT\n", stderr);
		return 2;
	}
	if (result < 0)
		perror("probe");
	return result < 0;
}
