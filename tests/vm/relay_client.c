/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container runs to talk to a unix socket: relay_client stream|seqpacket|dgram PATH. Standard input goes there, and what comes back to standard
 * output; its end is passed on.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int copy(int from, int to)
{
	static char data[65536];
	ssize_t n = read(from, data, sizeof(data));

	for (ssize_t done = 0; done < n;) {
		ssize_t written = write(to, data + done, (size_t)(n - done));

		if (written < 0)
			return -1;
		done += written;
	}
	return n > 0;
}

int main(int argc, char **argv)
{
	int type = argc != 3 ? -1 : strcmp(argv[1], "dgram") == 0 ? SOCK_DGRAM : strcmp(argv[1], "stream") == 0 ? SOCK_STREAM : SOCK_SEQPACKET;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = type < 0 ? -1 : socket(AF_UNIX, type, 0);
	struct pollfd wanted[2] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

	if (fd < 0 || strlen(argv[2]) >= sizeof(address.sun_path))
		return 2;
	strcpy(address.sun_path, argv[2]);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		perror("connect");
		return 1;
	}
	for (;;) {
		if (poll(wanted, 2, -1) < 0)
			return 1;
		if (wanted[0].revents && copy(0, fd) <= 0) {
			wanted[0].fd = -1;
			shutdown(fd, SHUT_WR);
			if (type == SOCK_DGRAM)
				return 0;
		}
		if (wanted[1].revents) {
			int got = copy(fd, 1);

			if (got <= 0)
				return got < 0;
		}
	}
}
