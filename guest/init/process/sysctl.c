/* SPDX-License-Identifier: Apache-2.0 */
#include "sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

/* Dots separate; where a slash does, a dot is part of a name, as in "net/ipv4/conf/eth0.1/forwarding". */
static int key_path(const char *key, char *path, size_t size)
{
	int n = snprintf(path, size, "sys/%s", key);

	if (n < 0 || (size_t)n >= size || strstr(key, "..") || *key == '/')
		return -1;
	if (!strchr(key, '/')) {
		for (char *c = path + 4; *c; c++)
			*c = *c == '.' ? '/' : *c;
	}
	return 0;
}

int sysctl_apply(int proc_fd, const struct node *table, struct error *error)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)table->json, key, value) {
		const char *text = json_string_value(value);
		char path[PATH_MAX];
		cleanup_close int fd = -1;

		if (!text || key_path(key, path, sizeof(path)) < 0)
			return node_fail(table, key, error, "is not a sysctl with a string");
		fd = openat(proc_fd, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || write(fd, text, strlen(text)) < 0)
			return error_sys(error, errno, "cannot set sysctl %s", key);
	}
	return 0;
}
