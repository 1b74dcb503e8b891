/* SPDX-License-Identifier: Apache-2.0 */
/* OCI's linux.resources, which speak of cgroup v1, as the files of cgroup v2. The conversions are those of runc. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"

__attribute__((format(printf, 4, 5)))
static int put(int cgroup_fd, const char *file, struct error *error, const char *format, ...)
{
	char text[256];
	cleanup_close int fd = -1;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(text))
		return error_set(error, KIND_INVALID, "the value for %s is too long", file);
	fd = openat(cgroup_fd, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return error_set(error, KIND_UNSUPPORTED, "cannot set %s: the guest has no such controller", file);
	if (fd < 0 || write(fd, text, (size_t)n) < 0)
		return error_sys(error, errno, "cannot set %s to %s", file, text);
	return 0;
}

/* A number of bytes, or of processes; negative: no limit. */
static int put_limit(int cgroup_fd, const char *file, int64_t value, struct error *error)
{
	return value < 0 ? put(cgroup_fd, file, error, "max") : put(cgroup_fd, file, error, "%" PRId64, value);
}

static int64_t opt_number(const struct node *node, const char *member, int64_t absent, bool *bad, struct error *error)
{
	int64_t value = absent;

	*bad |= opt_int(node, member, INT64_MIN, INT64_MAX, &value, error) < 0;
	return value;
}

/* The first number of a file; absent where there is none: "max", or no such file. */
static int64_t number_in(int cgroup_fd, const char *file, int64_t absent)
{
	cleanup_close int fd = openat(cgroup_fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[64];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	int64_t value;

	text[n > 0 ? n : 0] = '\0';
	return sscanf(text, "%" SCNd64, &value) == 1 ? value : absent;
}

static int check_usage(int cgroup_fd, const struct node *memory, int64_t limit, struct error *error)
{
	int64_t usage;
	bool check = false;

	if (opt_bool(memory, "checkBeforeUpdate", &check, error) < 0)
		return -1;
	usage = check ? number_in(cgroup_fd, "memory.current", 0) : 0;
	if (limit > 0 && usage > limit)
		return error_set(error, KIND_STATE, "rejecting memory limit %" PRId64 ": %" PRId64 " bytes are in use", limit, usage);
	return 0;
}

static int set_memory(int cgroup_fd, const struct node *resources, struct error *error)
{
	struct node memory;
	int64_t limit, low, swap;
	bool bad = opt_object(resources, "memory", &memory, error) < 0;

	if (bad)
		return -1;
	limit = opt_number(&memory, "limit", 0, &bad, error);
	low = opt_number(&memory, "reservation", 0, &bad, error);
	swap = opt_number(&memory, "swap", 0, &bad, error);
	if (bad || check_usage(cgroup_fd, &memory, limit, error) < 0)
		return -1;
	if (limit && put_limit(cgroup_fd, "memory.max", limit, error) < 0)
		return -1;
	if (low && put_limit(cgroup_fd, "memory.low", low, error) < 0)
		return -1;
	if (!swap)
		return 0;
	/* OCI's swap is memory and swap together. */
	if (!limit)
		limit = number_in(cgroup_fd, "memory.max", -1);
	if (swap > 0 && (limit <= 0 || swap < limit))
		return node_fail(&memory, "swap", error, "must not be less than the limit");
	swap = swap < 0 ? -1 : swap - limit;
	/* A kernel that does not count swap gives none either: the guest has no swap device. */
	if (put_limit(cgroup_fd, "memory.swap.max", swap, error) < 0 && error->kind != KIND_UNSUPPORTED)
		return -1;
	return 0;
}

/* 2..262144 to 1..10000, such that v1's default of 1024 becomes v2's default of 100. */
static int64_t cpu_weight(int64_t shares)
{
	double l, exponent;

	if (shares <= 2)
		return 1;
	if (shares >= 262144)
		return 10000;
	l = log2((double)shares);
	exponent = (l * l + 125 * l) / 612.0 - 7.0 / 34.0;
	return (int64_t)ceil(pow(10, exponent));
}

static int set_cpu_max(int cgroup_fd, int64_t quota, int64_t period, struct error *error)
{
	if (!quota && !period)
		return 0;
	if (!quota)
		quota = number_in(cgroup_fd, "cpu.max", -1);
	/* Without a second number the period stays what it is. */
	if (!period)
		return quota < 0 ? put(cgroup_fd, "cpu.max", error, "max") : put(cgroup_fd, "cpu.max", error, "%" PRId64, quota);
	if (quota <= 0)
		return put(cgroup_fd, "cpu.max", error, "max %" PRId64, period);
	return put(cgroup_fd, "cpu.max", error, "%" PRId64 " %" PRId64, quota, period);
}

static int set_cpuset(int cgroup_fd, const struct node *cpu, struct error *error)
{
	const char *cpus = "", *mems = "";

	if (opt_str(cpu, "cpus", &cpus, error) < 0 || opt_str(cpu, "mems", &mems, error) < 0)
		return -1;
	if (*cpus && put(cgroup_fd, "cpuset.cpus", error, "%s", cpus) < 0)
		return -1;
	return *mems ? put(cgroup_fd, "cpuset.mems", error, "%s", mems) : 0;
}

static int set_cpu(int cgroup_fd, const struct node *resources, struct error *error)
{
	struct node cpu;
	int64_t shares, quota, period, burst, idle;
	bool bad = opt_object(resources, "cpu", &cpu, error) < 0;

	if (bad)
		return -1;
	shares = opt_number(&cpu, "shares", 0, &bad, error);
	quota = opt_number(&cpu, "quota", 0, &bad, error);
	period = opt_number(&cpu, "period", 0, &bad, error);
	burst = opt_number(&cpu, "burst", -1, &bad, error);
	idle = opt_number(&cpu, "idle", 0, &bad, error);
	if (bad)
		return -1;
	if (shares > 0 && put(cgroup_fd, "cpu.weight", error, "%" PRId64, cpu_weight(shares)) < 0)
		return -1;
	if (set_cpu_max(cgroup_fd, quota, period, error) < 0)
		return -1;
	if (burst >= 0 && put(cgroup_fd, "cpu.max.burst", error, "%" PRId64, burst) < 0)
		return -1;
	if (has_member(&cpu, "idle") && put(cgroup_fd, "cpu.idle", error, "%" PRId64, idle) < 0)
		return -1;
	return set_cpuset(cgroup_fd, &cpu, error);
}

static int set_pids(int cgroup_fd, const struct node *resources, struct error *error)
{
	struct node pids;
	int64_t limit = 0;

	if (opt_object(resources, "pids", &pids, error) < 0 || opt_int(&pids, "limit", INT64_MIN, INT64_MAX, &limit, error) < 0)
		return -1;
	if (!has_member(&pids, "limit"))
		return 0;
	/* With 0 not even the first process could come in. 1 is as runc has it. */
	return put_limit(cgroup_fd, "pids.max", limit ? limit : 1, error);
}

static const struct {
	const char *member, *key;
} throttles[] = {
	{ "throttleReadBpsDevice", "rbps" },
	{ "throttleWriteBpsDevice", "wbps" },
	{ "throttleReadIOPSDevice", "riops" },
	{ "throttleWriteIOPSDevice", "wiops" },
};

static int get_device(const struct node *entry, int64_t *major, int64_t *minor, struct error *error)
{
	return get_int(entry, "major", 0, 0xfff, major, error) < 0 || get_int(entry, "minor", 0, 0xfffff, minor, error) < 0 ? -1 : 0;
}

static int set_throttle(int cgroup_fd, const struct node *io, size_t which, struct error *error)
{
	struct node list, entry;

	if (opt_array(io, throttles[which].member, &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		int64_t major, minor;
		uint64_t rate;

		if (array_object(&list, i, &entry, error) < 0 || get_device(&entry, &major, &minor, error) < 0 ||
		    get_u64(&entry, "rate", &rate, error) < 0)
			return -1;
		if (put(cgroup_fd, "io.max", error, "%" PRId64 ":%" PRId64 " %s=%" PRIu64, major, minor, throttles[which].key, rate) < 0)
			return -1;
	}
	return 0;
}

/* 10..1000 to 1..10000 */
static int64_t io_weight(int64_t weight)
{
	return 1 + (weight - 10) * 9999 / 990;
}

static int set_weights(int cgroup_fd, const struct node *io, struct error *error)
{
	struct node list, entry;
	int64_t weight = 0;

	if (opt_int(io, "weight", 0, 1000, &weight, error) < 0 || opt_array(io, "weightDevice", &list, error) < 0)
		return -1;
	if (weight >= 10 && put(cgroup_fd, "io.weight", error, "default %" PRId64, io_weight(weight)) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		int64_t major, minor, own = 0;

		if (array_object(&list, i, &entry, error) < 0 || get_device(&entry, &major, &minor, error) < 0 ||
		    opt_int(&entry, "weight", 0, 1000, &own, error) < 0)
			return -1;
		if (own >= 10 && put(cgroup_fd, "io.weight", error, "%" PRId64 ":%" PRId64 " %" PRId64, major, minor, io_weight(own)) < 0)
			return -1;
	}
	return 0;
}

static int set_io(int cgroup_fd, const struct node *resources, struct error *error)
{
	struct node io;

	if (opt_object(resources, "blockIO", &io, error) < 0 || set_weights(cgroup_fd, &io, error) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(throttles) / sizeof(throttles[0]); i++) {
		if (set_throttle(cgroup_fd, &io, i, error) < 0)
			return -1;
	}
	return 0;
}

/* A name of a file in the cgroup's own directory */
static bool plain_name(const char *name)
{
	return *name && !strchr(name, '/') && name[0] != '.' && strlen(name) < 128;
}

static int set_hugepages(int cgroup_fd, const struct node *resources, struct error *error)
{
	struct node list, entry;

	if (opt_array(resources, "hugepageLimits", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		const char *size;
		char file[160];
		uint64_t limit;

		if (array_object(&list, i, &entry, error) < 0 || get_str(&entry, "pageSize", &size, error) < 0 ||
		    get_u64(&entry, "limit", &limit, error) < 0)
			return -1;
		if (!plain_name(size))
			return node_fail(&entry, "pageSize", error, "is not a page size");
		snprintf(file, sizeof(file), "hugetlb.%s.max", size);
		if (put(cgroup_fd, file, error, "%" PRIu64, limit) < 0)
			return -1;
	}
	return 0;
}

static int set_unified(int cgroup_fd, const struct node *resources, struct error *error)
{
	struct node unified;
	const char *file;
	json_t *value;

	if (opt_object(resources, "unified", &unified, error) < 0)
		return -1;
	json_object_foreach((json_t *)(uintptr_t)unified.json, file, value) {
		if (!plain_name(file) || !json_is_string(value))
			return node_fail(&unified, file, error, "is not a cgroup file with a string");
		if (put(cgroup_fd, file, error, "%s", json_string_value(value)) < 0)
			return -1;
	}
	return 0;
}

int cgroup_apply_limits(int cgroup_fd, const struct node *resources, struct error *error)
{
	struct node rdma;

	if (opt_object(resources, "rdma", &rdma, error) < 0)
		return -1;
	if (json_object_size(rdma.json) > 0)
		return error_set(error, KIND_UNSUPPORTED, "the guest has no rdma controller");
	if (set_memory(cgroup_fd, resources, error) < 0 || set_cpu(cgroup_fd, resources, error) < 0 || set_pids(cgroup_fd, resources, error) < 0 ||
	    set_io(cgroup_fd, resources, error) < 0 || set_hugepages(cgroup_fd, resources, error) < 0)
		return -1;
	return set_unified(cgroup_fd, resources, error);
}
