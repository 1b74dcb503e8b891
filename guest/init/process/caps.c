/* SPDX-License-Identifier: Apache-2.0 */
#include "caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The index is the kernel's number. */
static const char *const names[] = {
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
	"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
	"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
};

enum { CAP_COUNT = sizeof(names) / sizeof(names[0]), CAP_KERNEL_MAX = 64 };

static uint64_t cap_bit(const char *name)
{
	for (unsigned int i = 0; i < CAP_COUNT; i++) {
		if (strcmp(names[i], name) == 0)
			return 1ULL << i;
	}
	return 0;
}

/* What the running kernel does not have cannot be granted. Its capabilities are without gaps. */
static uint64_t known_caps(void)
{
	unsigned int count = CAP_COUNT;

	while (count > 0 && prctl(PR_CAPBSET_READ, count - 1) < 0)
		count--;
	return (1ULL << count) - 1;
}

static int parse_set(const struct node *caps, const char *member, uint64_t *set, struct error *error)
{
	struct node list;
	const char *name;

	if (opt_array(caps, member, &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_str(&list, i, &name, error) < 0)
			return -1;
		*set |= cap_bit(name);
	}
	return 0;
}

int caps_parse(const struct node *process, struct caps *caps, struct error *error)
{
	struct node node;
	int found = opt_object(process, "capabilities", &node, error);
	uint64_t known = known_caps();

	memset(caps, 0, sizeof(*caps));
	if (found < 0)
		return -1;
	caps->given = found > 0;
	if (parse_set(&node, "effective", &caps->effective, error) < 0 || parse_set(&node, "permitted", &caps->permitted, error) < 0 ||
	    parse_set(&node, "inheritable", &caps->inheritable, error) < 0 || parse_set(&node, "bounding", &caps->bounding, error) < 0 ||
	    parse_set(&node, "ambient", &caps->ambient, error) < 0)
		return -1;
	caps->effective &= known;
	caps->permitted &= known;
	caps->inheritable &= known;
	caps->bounding &= known;
	caps->ambient &= known;
	return 0;
}

int caps_set(uint64_t effective, uint64_t permitted, uint64_t inheritable, struct error *error)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
		{ (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
	};

	if (syscall(SYS_capset, &header, data) < 0)
		return error_sys(error, errno, "cannot set the capabilities");
	return 0;
}

int caps_drop_bounding(uint64_t keep, struct error *error)
{
	for (unsigned int i = 0; i < CAP_KERNEL_MAX; i++) {
		int held = keep & 1ULL << i ? 0 : prctl(PR_CAPBSET_READ, i);

		/* EINVAL: past the kernel's last one */
		if (held < 0)
			break;
		if (held && prctl(PR_CAPBSET_DROP, i) < 0)
			return error_sys(error, errno, "cannot drop capability %u", i);
	}
	return 0;
}

int caps_raise_ambient(uint64_t ambient, struct error *error)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return error_sys(error, errno, "cannot clear the ambient capabilities");
	for (unsigned int i = 0; i < CAP_COUNT; i++) {
		if (ambient & 1ULL << i && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return error_sys(error, errno, "cannot raise ambient capability %s", names[i]);
	}
	return 0;
}
