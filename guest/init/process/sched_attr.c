/* SPDX-License-Identifier: Apache-2.0 */
#include "sched_attr.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <linux/sched/types.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

struct word {
	const char *name;
	unsigned int value;
};

static const struct word policies[] = {
	{ "SCHED_OTHER", 0 }, { "SCHED_FIFO", 1 }, { "SCHED_RR", 2 }, { "SCHED_BATCH", 3 }, { "SCHED_IDLE", 5 }, { "SCHED_DEADLINE", 6 },
};

static const struct word sched_flags[] = {
	{ "SCHED_FLAG_RESET_ON_FORK", 0x01 },  { "SCHED_FLAG_RECLAIM", 0x02 },        { "SCHED_FLAG_DL_OVERRUN", 0x04 },
	{ "SCHED_FLAG_KEEP_POLICY", 0x08 },    { "SCHED_FLAG_KEEP_PARAMS", 0x10 },    { "SCHED_FLAG_UTIL_CLAMP_MIN", 0x20 },
	{ "SCHED_FLAG_UTIL_CLAMP_MAX", 0x40 },
};

static const struct word io_classes[] = {
	{ "IOPRIO_CLASS_RT", IOPRIO_CLASS_RT },
	{ "IOPRIO_CLASS_BE", IOPRIO_CLASS_BE },
	{ "IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE },
};

static const struct word domains[] = { { "LINUX", PER_LINUX }, { "LINUX32", PER_LINUX32 } };

static const struct word *find_word(const struct word *words, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	}
	return NULL;
}

#define FIND(words, name) find_word(words, sizeof(words) / sizeof(words[0]), name)

static int read_flags(const struct node *scheduler, struct sched_attr *attr, struct error *error)
{
	struct node list;
	const char *name;

	if (opt_array(scheduler, "flags", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		const struct word *flag;

		if (array_str(&list, i, &name, error) < 0)
			return -1;
		flag = FIND(sched_flags, name);
		if (!flag)
			return node_fail(scheduler, "flags", error, "has an unknown entry");
		attr->sched_flags |= flag->value;
	}
	return 0;
}

static int set_scheduler(const struct node *process, struct error *error)
{
	struct sched_attr attr = { .size = sizeof(attr) };
	const struct word *policy;
	struct node scheduler;
	const char *name;
	int64_t nice = 0, priority = 0;
	uint64_t runtime = 0, deadline = 0, period = 0;
	int found = opt_object(process, "scheduler", &scheduler, error);

	if (found <= 0)
		return found;
	if (get_str(&scheduler, "policy", &name, error) < 0 || opt_int(&scheduler, "nice", -20, 19, &nice, error) < 0 ||
	    opt_int(&scheduler, "priority", 0, 99, &priority, error) < 0 || read_flags(&scheduler, &attr, error) < 0)
		return -1;
	policy = FIND(policies, name);
	if (!policy)
		return node_fail(&scheduler, "policy", error, "is not a known policy");
	attr.sched_policy = policy->value;
	attr.sched_nice = (int)nice;
	attr.sched_priority = (unsigned int)priority;
	if (opt_u64(&scheduler, "runtime", &runtime, error) < 0 || opt_u64(&scheduler, "deadline", &deadline, error) < 0 ||
	    opt_u64(&scheduler, "period", &period, error) < 0)
		return -1;
	attr.sched_runtime = runtime;
	attr.sched_deadline = deadline;
	attr.sched_period = period;
	if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
		return error_sys(error, errno, "cannot set scheduler %s", name);
	return 0;
}

static int set_io_priority(const struct node *process, struct error *error)
{
	const struct word *class;
	struct node priority;
	const char *name;
	int64_t level = 0;
	int found = opt_object(process, "ioPriority", &priority, error);

	if (found <= 0)
		return found;
	if (get_str(&priority, "class", &name, error) < 0 || opt_int(&priority, "priority", 0, 7, &level, error) < 0)
		return -1;
	class = FIND(io_classes, name);
	if (!class)
		return node_fail(&priority, "class", error, "is not a known class");
	if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(class->value, (unsigned int)level)) < 0)
		return error_sys(error, errno, "cannot set I/O priority %s", name);
	return 0;
}

static int set_personality(const struct node *linux_node, struct error *error)
{
	const struct word *domain;
	struct node node, flags;
	const char *name;
	int found = opt_object(linux_node, "personality", &node, error);

	if (found <= 0)
		return found;
	if (get_str(&node, "domain", &name, error) < 0 || opt_array(&node, "flags", &flags, error) < 0)
		return -1;
	domain = FIND(domains, name);
	if (!domain || array_len(&flags) > 0)
		return error_set(error, KIND_UNSUPPORTED, "this personality is not supported: %.64s%s", name, domain ? " with flags" : "");
	if (personality(domain->value) < 0)
		return error_sys(error, errno, "cannot set personality %s", name);
	return 0;
}

int sched_apply(const struct node *process, const struct node *linux_node, struct error *error)
{
	if (set_scheduler(process, error) < 0 || set_io_priority(process, error) < 0)
		return -1;
	return set_personality(linux_node, error);
}
