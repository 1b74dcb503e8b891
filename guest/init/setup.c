/* SPDX-License-Identifier: Apache-2.0 */
#include "setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "inroot.h"
#include "mount_options.h"
#include "net.h"
#include "sysctl.h"

enum { ENTROPY_MAX = 512 };

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A clone of a template has its template's random numbers: what is written alone would not change them until the next reseed. */
static int add_entropy(const struct node *args, struct error *error)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[ENTROPY_MAX];
	} pool = { 0 };
	cleanup_close int fd = -1;
	const char *hex = "";
	size_t len;

	if (opt_str(args, "entropy", &hex, error) < 0)
		return -1;
	len = strlen(hex) / 2;
	if (!*hex)
		return 0;
	if (strlen(hex) % 2 || len > ENTROPY_MAX)
		return node_fail(args, "entropy", error, "must be hexadecimal, at most 512 bytes");
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return node_fail(args, "entropy", error, "must be hexadecimal");
		pool.bytes[i] = (unsigned char)(high << 4 | low);
	}
	pool.info.entropy_count = (int)len * 8;
	pool.info.buf_size = (int)len;
	fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return error_sys(error, errno, "cannot add entropy");
	return 0;
}

static int set_time(const struct node *args, struct error *error)
{
	struct timespec time;
	int64_t ns = 0;

	if (opt_int(args, "time_ns", 0, INT64_MAX, &ns, error) < 0)
		return -1;
	time.tv_sec = ns / 1000000000;
	time.tv_nsec = ns % 1000000000;
	if (ns && clock_settime(CLOCK_REALTIME, &time) < 0)
		return error_sys(error, errno, "cannot set the time");
	return 0;
}

static int set_hostname(const struct node *args, struct error *error)
{
	const char *name = "";

	if (opt_str(args, "hostname", &name, error) < 0)
		return -1;
	if (*name && sethostname(name, strlen(name)) < 0)
		return error_sys(error, errno, "cannot set the hostname to %s", name);
	return 0;
}

static int is_mount_point(int fd)
{
	struct statx sx;

	return statx(fd, "", AT_EMPTY_PATH, 0, &sx) == 0 && sx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

static int mount_share(const struct node *share, struct error *error)
{
	const char *type, *tag, *target;
	struct mount_options options;
	char data[MOUNT_DATA_MAX + 64], path[64];
	cleanup_close int root = -1, place = -1;

	if (get_str(share, "type", &type, error) < 0 || get_str(share, "tag", &tag, error) < 0 || get_str(share, "target", &target, error) < 0 ||
	    mount_options_parse(share, &options, error) < 0)
		return -1;
	if (strcmp(type, "9p") != 0 && strcmp(type, "virtiofs") != 0 && strcmp(type, "tmpfs") != 0)
		return node_fail(share, "type", error, "must be 9p, virtiofs or tmpfs");
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	place = root >= 0 ? inroot_mkdirs(root, target, error) : error_sys(error, errno, "cannot open /");
	if (place < 0)
		return -1;
	if (is_mount_point(place))
		return error_set(error, KIND_EXISTS, "something is mounted at %s already", target);
	if (strcmp(type, "9p") == 0 && !strstr(options.data, "trans="))
		snprintf(data, sizeof(data), "trans=virtio,version=9p2000.L%s%s", *options.data ? "," : "", options.data);
	else
		snprintf(data, sizeof(data), "%s", options.data);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
	if (mount(tag, path, type, options.flags, data) < 0)
		return error_sys(error, errno, "cannot mount share %s at %s", tag, target);
	return 0;
}

static int mount_shares(const struct node *args, struct error *error)
{
	struct node list, share;

	if (opt_array(args, "shares", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &share, error) < 0 || mount_share(&share, error) < 0)
			return -1;
	}
	return 0;
}

static int set_sysctls(const struct node *args, struct error *error)
{
	cleanup_close int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct node table;

	if (opt_object(args, "sysctl", &table, error) < 0)
		return -1;
	return sysctl_apply(proc, &table, error);
}

int setup_run(const struct node *args, json_t **result, struct error *error)
{
	(void)result;
	if (set_hostname(args, error) < 0 || set_time(args, error) < 0 || add_entropy(args, error) < 0 || mount_shares(args, error) < 0 ||
	    net_setup(args, error) < 0)
		return -1;
	return set_sysctls(args, error);
}

static bool is_among(const char *word, const char *const *words)
{
	while (*words && strcmp(word, *words) != 0)
		words++;
	return *words != NULL;
}

bool setup_is_quick(const struct node *args)
{
	static const char *const members[] = { "hostname", "time_ns", "entropy", "shares", NULL };
	static const char *const types[] = { "9p", "tmpfs", NULL };
	const json_t *shares = json_object_get(args->json, "shares");

	for (void *at = json_object_iter((json_t *)(uintptr_t)args->json); at; at = json_object_iter_next((json_t *)(uintptr_t)args->json, at)) {
		if (!is_among(json_object_iter_key(at), members))
			return false;
	}
	for (size_t i = 0; i < json_array_size(shares); i++) {
		const char *type = json_string_value(json_object_get(json_array_get(shares, i), "type"));

		if (!type || !is_among(type, types))
			return false;
	}
	return true;
}
