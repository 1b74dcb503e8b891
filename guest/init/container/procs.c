/* SPDX-License-Identifier: Apache-2.0 */
#include "procs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "cgroup.h"
#include "cleanup.h"

enum { ARGS_MAX = 4096 };

static ssize_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	cleanup_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, text, size - 1) : -1;
	text[n > 0 ? n : 0] = '\0';
	return n;
}

/* Field 2 is in parentheses and may hold anything, parentheses too: the others are counted from the last one. */
static bool parse_stat(const char *stat, int *ppid, uint64_t *start)
{
	const char *after = strrchr(stat, ')');
	char state;

	return after && sscanf(after + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64, &state, ppid, start) == 3;
}

static json_t *read_comm(const char *stat)
{
	const char *open = strchr(stat, '('), *end = strrchr(stat, ')');

	return open && end > open ? json_text(open + 1, (size_t)(end - open - 1)) : json_string("");
}

/* The arguments with blanks between; of a kernel's or a dying process its name, as ps shows it. */
static json_t *read_args(pid_t pid, const char *stat)
{
	char args[ARGS_MAX];
	ssize_t n = read_proc(pid, "cmdline", args, sizeof(args));

	while (n > 0 && args[n - 1] == '\0')
		n--;
	if (n <= 0)
		return read_comm(stat);
	for (ssize_t i = 0; i < n; i++)
		args[i] = args[i] ? args[i] : ' ';
	return json_text(args, (size_t)n);
}

static void add_process(pid_t pid, void *arg)
{
	json_t *list = arg;
	char stat[1024], path[64];
	struct stat st;
	uint64_t start = 0;
	int ppid = 0;

	/* One that has ended meanwhile is not there. */
	if (read_proc(pid, "stat", stat, sizeof(stat)) <= 0 || !parse_stat(stat, &ppid, &start))
		return;
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	if (lstat(path, &st) < 0)
		return;
	json_array_append_new(list, json_pack("{s:i, s:i, s:i, s:I, s:o, s:o}", "pid", (int)pid, "ppid", ppid, "uid", (int)st.st_uid,
					      "start_ticks", (json_int_t)start, "comm", read_comm(stat), "args", read_args(pid, stat)));
}

int procs_list(const struct node *args, json_t **result, struct error *error)
{
	char path[sizeof(CGROUP_PARENT) + 160];
	cleanup_close int cgroup = -1;
	json_t *list = json_array();
	const char *id, *group;
	int failed;

	if (get_str(args, "container", &id, error) < 0 || get_str(args, "group", &group, error) < 0)
		return -1;
	snprintf(path, sizeof(path), CGROUP_PARENT "/%s", group);
	cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		return error_sys(error, errno, "cannot open cgroup %s", path);
	failed = cgroup_each_pid(cgroup, add_process, list);
	if (failed < 0)
		return error_sys(error, -failed, "cannot list the processes of container \"%s\"", id);
	*result = json_pack("{s:o}", "processes", list);
	return 0;
}
