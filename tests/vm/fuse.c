/* SPDX-License-Identifier: Apache-2.0 */
/* The least that is a FUSE file system: mounts an empty directory of a mode and size of its own, and runs a program meanwhile. */
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void answer(int fd, const struct fuse_in_header *in, int error, const void *data, size_t len)
{
	struct {
		struct fuse_out_header header;
		char data[256];
	} out = { .header = { .len = (unsigned int)(sizeof(out.header) + len), .error = error, .unique = in->unique } };

	memcpy(out.data, data, len);
	(void)!write(fd, &out, out.header.len);
}

static void serve(int fd)
{
	static char request[1 << 18];
	const struct fuse_in_header *in = (const void *)request;
	struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096 };
	struct fuse_attr_out attr = { .attr = { .ino = 1, .mode = S_IFDIR | 0751, .nlink = 1, .size = 4711 } };

	if (read(fd, request, sizeof(request)) <= 0)
		return;
	if (in->opcode == FUSE_INIT)
		answer(fd, in, 0, &init, sizeof(init));
	else if (in->opcode == FUSE_GETATTR)
		answer(fd, in, 0, &attr, sizeof(attr));
	else if (in->opcode != FUSE_FORGET)
		answer(fd, in, -38, "", 0); /* ENOSYS */
}

int main(int argc, char **argv)
{
	struct pollfd ready = { .fd = open("/dev/fuse", O_RDWR), .events = POLLIN };
	char options[64];
	int status = 1;
	pid_t pid;

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", ready.fd);
	if (argc < 3 || ready.fd < 0 || mount("fuse", argv[1], "fuse", 0, options) < 0) {
		perror("fuse");
		return 2;
	}
	pid = fork();
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (poll(&ready, 1, 10) > 0)
			serve(ready.fd);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
