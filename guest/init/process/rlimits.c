/* SPDX-License-Identifier: Apache-2.0 */
#include "rlimits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "cleanup.h"

static const struct {
	const char *name;
	int resource;
} rlimits[] = {
	{ "RLIMIT_AS", RLIMIT_AS },
	{ "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },
	{ "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },
	{ "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
	{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },
	{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },
	{ "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "RLIMIT_RTTIME", RLIMIT_RTTIME },
	{ "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },
};

static int find_rlimit(const char *name)
{
	for (size_t i = 0; i < sizeof(rlimits) / sizeof(rlimits[0]); i++) {
		if (strcmp(rlimits[i].name, name) == 0)
			return rlimits[i].resource;
	}
	return -1;
}

static int apply_rlimit(pid_t pid, const struct node *entry, unsigned int *seen, struct error *error)
{
	struct rlimit limit;
	const char *name;
	uint64_t soft, hard;
	int resource;

	if (get_str(entry, "type", &name, error) < 0 || get_u64(entry, "soft", &soft, error) < 0 || get_u64(entry, "hard", &hard, error) < 0)
		return -1;
	resource = find_rlimit(name);
	if (resource < 0)
		return node_fail(entry, "type", error, "is not a known limit");
	if (*seen & 1u << resource)
		return node_fail(entry, "type", error, "is there twice");
	*seen |= 1u << resource;
	limit = (struct rlimit){ .rlim_cur = soft, .rlim_max = hard };
	if (prlimit(pid, (unsigned int)resource, &limit, NULL) < 0)
		return error_sys(error, errno, "cannot set %s", name);
	return 0;
}

static int apply_oom_score(pid_t pid, int64_t score, struct error *error)
{
	char path[64];
	cleanup_close int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%d", (int)score) < 0)
		return error_sys(error, errno, "cannot set oomScoreAdj to %d", (int)score);
	return 0;
}

int rlimits_apply(pid_t pid, const struct node *process, struct error *error)
{
	struct node list, entry;
	unsigned int seen = 0;
	int64_t score = 0;

	if (opt_array(process, "rlimits", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &entry, error) < 0 || apply_rlimit(pid, &entry, &seen, error) < 0)
			return -1;
	}
	if (opt_int(process, "oomScoreAdj", -1000, 1000, &score, error) < 0)
		return -1;
	return has_member(process, "oomScoreAdj") ? apply_oom_score(pid, score, error) : 0;
}

void rlimits_reset(void)
{
	struct rlimit now, files = { .rlim_cur = 1024, .rlim_max = 524288 };

	if (setrlimit(RLIMIT_NOFILE, &files) == 0 || getrlimit(RLIMIT_NOFILE, &now) < 0)
		return;
	/* Not in the guest, but on a machine where the tests may not raise it */
	files.rlim_max = now.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files);
}
