/* SPDX-License-Identifier: Apache-2.0 */
#include "affinity.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

/* The kernel's list format: "0-3,7". */
static int parse_cpus(const char *text, cpu_set_t *set)
{
	CPU_ZERO(set);
	while (*text) {
		char *end;
		unsigned long first = strtoul(text, &end, 10), last = first;

		if (*text < '0' || *text > '9')
			return -1;
		if (*end == '-') {
			text = end + 1;
			if (*text < '0' || *text > '9')
				return -1;
			last = strtoul(text, &end, 10);
		}
		if ((*end && *end != ',') || first > last || last >= CPU_SETSIZE)
			return -1;
		for (unsigned long cpu = first; cpu <= last; cpu++)
			CPU_SET(cpu, set);
		text = *end ? end + 1 : end;
	}
	return CPU_COUNT(set) ? 0 : -1;
}

static int set_affinity(const struct node *affinity, const char *member, struct error *error)
{
	const char *text = "";
	cpu_set_t set;

	if (opt_str(affinity, member, &text, error) < 0)
		return -1;
	if (!*text)
		return 0;
	if (parse_cpus(text, &set) < 0)
		return node_fail(affinity, member, error, "is not a list of CPUs");
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		return error_sys(error, errno, "cannot run on CPUs %.128s of the guest", text);
	return 0;
}

int affinity_apply(const struct node *process, struct error *error)
{
	struct node affinity;

	/* The child is made in its cgroup, so it is in the "final" phase from the start; without that, the kernel keeps what was asked for first. */
	if (opt_object(process, "execCPUAffinity", &affinity, error) < 0 || set_affinity(&affinity, "initial", error) < 0)
		return -1;
	return set_affinity(&affinity, "final", error);
}
