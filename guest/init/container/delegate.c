/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who owns a container's cgroup: with a cgroup namespace and a writable /sys/fs/cgroup of its own, the user of its process, who can then divide it (spec:
 * config-linux.md, "Cgroup ownership"). Of its files only those that delegate, since by the others it could lift its own limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"

static const char fallback[] = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

static int mounted_writable(const struct node *oci, bool *writable, struct error *error)
{
	struct node list, entry, options;

	*writable = false;
	if (opt_array(oci, "mounts", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		const char *destination, *type = "", *word;
		bool readonly = false;

		if (array_object(&list, i, &entry, error) < 0 || get_str(&entry, "destination", &destination, error) < 0 ||
		    opt_str(&entry, "type", &type, error) < 0 || opt_array(&entry, "options", &options, error) < 0)
			return -1;
		if (strcmp(destination, "/sys/fs/cgroup") != 0 || strncmp(type, "cgroup", 6) != 0)
			continue;
		for (size_t k = 0; k < array_len(&options); k++) {
			if (array_str(&options, k, &word, error) < 0)
				return -1;
			readonly |= strcmp(word, "ro") == 0;
		}
		*writable = !readonly;
	}
	return 0;
}

/* An id of the container as PID 1 knows it; -1: it is mapped to none. */
static int outside_id(const struct node *linux_node, int64_t inside, int64_t *outside, struct error *error)
{
	struct node list, entry;

	*outside = -1;
	if (opt_array(linux_node, "uidMappings", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		int64_t first, to, size;

		if (array_object(&list, i, &entry, error) < 0 || get_int(&entry, "containerID", 0, UINT32_MAX, &first, error) < 0 ||
		    get_int(&entry, "hostID", 0, UINT32_MAX, &to, error) < 0 || get_int(&entry, "size", 1, UINT32_MAX, &size, error) < 0)
			return -1;
		if (inside >= first && inside - first < size)
			*outside = to + inside - first;
	}
	return 0;
}

static int owner_of(const struct node *oci, bool user_namespace, int64_t *owner, struct error *error)
{
	struct node process, user, linux_node;
	int64_t uid = 0;

	if (opt_object(oci, "process", &process, error) < 0 || opt_object(&process, "user", &user, error) < 0 ||
	    opt_int(&user, "uid", 0, UINT32_MAX - 1, &uid, error) < 0 || opt_object(oci, "linux", &linux_node, error) < 0)
		return -1;
	*owner = uid;
	return user_namespace ? outside_id(&linux_node, uid, owner, error) : 0;
}

static int give_files(int cgroup_fd, uid_t owner, struct error *error)
{
	cleanup_close int fd = open("/sys/kernel/cgroup/delegate", O_RDONLY | O_CLOEXEC);
	char names[4096], *rest = names;
	ssize_t n = fd >= 0 ? read(fd, names, sizeof(names) - 1) : -1;

	if (n > 0)
		names[n] = '\0';
	else
		strcpy(names, fallback);
	for (char *name = strtok_r(names, "\n", &rest); name; name = strtok_r(NULL, "\n", &rest)) {
		/* The kernel names files of other controllers, too. */
		if (strchr(name, '/') || (fchownat(cgroup_fd, name, owner, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT))
			return error_sys(error, errno, "cannot give %s of the cgroup away", name);
	}
	return 0;
}

int cgroup_delegate(int cgroup_fd, const struct node *oci, bool user_namespace, struct error *error)
{
	int64_t owner;
	bool writable;

	if (mounted_writable(oci, &writable, error) < 0 || owner_of(oci, user_namespace, &owner, error) < 0)
		return -1;
	if (!writable || owner <= 0)
		return 0;
	if (fchown(cgroup_fd, (uid_t)owner, (gid_t)-1) < 0)
		return error_sys(error, errno, "cannot give the cgroup to user %lld", (long long)owner);
	return give_files(cgroup_fd, (uid_t)owner, error);
}
