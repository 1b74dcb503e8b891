/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "conn.h"
#include "container.h"

enum { TEXT_MAX = 16384 };

/* What there is of these is told. The files of hugetlb have the page's size in their names. */
static const char *const names[] = {
	"cpu.stat", "cpu.pressure", "cpuset.cpus.effective", "cpuset.mems.effective", "io.stat", "io.pressure", "memory.current", "memory.events",
	"memory.max", "memory.peak", "memory.pressure", "memory.stat", "memory.swap.current", "memory.swap.max", "memory.swap.peak", "pids.current",
	"pids.max",
};

static void add_file(int cgroup_fd, const char *name, json_t *files)
{
	cleanup_close int fd = openat(cgroup_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[TEXT_MAX];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;

	if (n >= 0)
		json_object_set_new(files, name, json_text(text, (size_t)n));
}

static int add_hugetlb(int cgroup_fd, json_t *files)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int fd = openat(cgroup_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || !(dir = fdopendir(fd))) {
		cleanup_closep(&fd);
		return -errno;
	}
	while ((entry = readdir(dir))) {
		const char *last = strrchr(entry->d_name, '.');

		if (strncmp(entry->d_name, "hugetlb.", 8) == 0 && (strcmp(last, ".current") == 0 || strcmp(last, ".events") == 0))
			add_file(cgroup_fd, entry->d_name, files);
	}
	return 0;
}

int container_stats(struct agent *agent, const struct node *args, struct reply *reply, struct error *error)
{
	struct container *container;
	cleanup_json json_t *files = json_object();
	const char *id;
	int result;

	if (get_str(args, "container", &id, error) < 0)
		return -1;
	container = container_find(agent, id, error);
	if (!container)
		return -1;
	if (container->cgroup_fd < 0)
		return error_set(error, KIND_STATE, "container \"%s\" is not running", container->id);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		add_file(container->cgroup_fd, names[i], files);
	result = add_hugetlb(container->cgroup_fd, files);
	if (result < 0)
		return error_sys(error, -result, "cannot read the cgroup of container \"%s\"", container->id);
	reply_ok(reply, json_pack("{s:O}", "files", files));
	return 0;
}
