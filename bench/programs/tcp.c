/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client says in one byte what it wants, and how many bytes in eight: that they are taken ('t', then answered with one byte), given ('g'), or sent back one
 * by one ('e').
 */
#define _GNU_SOURCE
#include "probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK (128U << 10)

static int take(int fd, uint64_t left)
{
	static char block[BLOCK];

	while (left) {
		ssize_t n = read(fd, block, left < BLOCK ? left : BLOCK);

		if (n <= 0)
			return -1;
		left -= (uint64_t)n;
	}
	return 0;
}

static int give(int fd, uint64_t left)
{
	static const char block[BLOCK];

	while (left) {
		size_t n = left < BLOCK ? left : BLOCK;

		if (probe_write(fd, block, n) < 0)
			return -1;
		left -= n;
	}
	return 0;
}

static int echo(int fd, uint64_t left)
{
	char byte;

	while (left--)
		if (probe_read(fd, &byte, 1) < 0 || probe_write(fd, &byte, 1) < 0)
			return -1;
	return 0;
}

static int no_delay(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

static void serve_client(int fd)
{
	uint64_t count;
	char what;

	while (probe_read(fd, &what, 1) == 0 && probe_read(fd, &count, sizeof(count)) == 0) {
		int result = -1;

		if (what == 't')
			result = take(fd, count) < 0 ? -1 : probe_write(fd, "", 1);
		else if (what == 'g')
			result = give(fd, count);
		else if (what == 'e')
			result = echo(fd, count);
		if (result < 0)
			return;
	}
}

int probe_serve(uint16_t port)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd;

	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0 ||
	    bind(listener, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(listener, 8) < 0)
		return -1;
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (no_delay(fd) == 0)
			serve_client(fd);
		close(fd);
	}
	return -1;
}

static int ask(int fd, char what, uint64_t count)
{
	return probe_write(fd, &what, 1) < 0 ? -1 : probe_write(fd, &count, sizeof(count));
}

static int talk(FILE *out, int fd, unsigned int megabytes, unsigned int count)
{
	uint64_t bytes = (uint64_t)megabytes << 20;
	double begin = probe_now();
	char byte = 0;

	if (ask(fd, 't', bytes) < 0 || give(fd, bytes) < 0 || probe_read(fd, &byte, 1) < 0)
		return -1;
	fprintf(out, "sent %f\n", megabytes / (probe_now() - begin));
	begin = probe_now();
	if (ask(fd, 'g', bytes) < 0 || take(fd, bytes) < 0)
		return -1;
	fprintf(out, "taken %f\n", megabytes / (probe_now() - begin));
	if (ask(fd, 'e', count) < 0)
		return -1;
	begin = probe_now();
	for (unsigned int i = 0; i < count; i++)
		if (probe_write(fd, &byte, 1) < 0 || probe_read(fd, &byte, 1) < 0)
			return -1;
	fprintf(out, "round_trip %f\n", (probe_now() - begin) * 1000 / count);
	return 0;
}

int probe_client(FILE *out, const char *address, uint16_t port, unsigned int megabytes, unsigned int count)
{
	struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int result = -1;

	if (fd < 0)
		return -1;
	if (inet_pton(AF_INET, address, &there.sin_addr) == 1 && connect(fd, (struct sockaddr *)&there, sizeof(there)) == 0 && no_delay(fd) == 0)
		result = talk(out, fd, megabytes, count);
	close(fd);
	return result;
}
