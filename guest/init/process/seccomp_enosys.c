/* SPDX-License-Identifier: Apache-2.0 */
#include "seccomp_enosys.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>

#ifndef X32_SYSCALL_BIT
#define X32_SYSCALL_BIT 0x40000000
#endif

/* What this kernel runs. The numbers of x32 are those of x86-64's architecture with a bit set. The last of all numbers is a tracer's "none". */
static const struct arch {
	const char *name;
	uint32_t token, audit, end;
	bool native;
} arches[ENOSYS_ARCHES] = {
	{ "SCMP_ARCH_X86_64", SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64, X32_SYSCALL_BIT, true },
	{ "SCMP_ARCH_X32", SCMP_ARCH_X32, AUDIT_ARCH_X86_64, UINT32_MAX, false },
	{ "SCMP_ARCH_X86", SCMP_ARCH_X86, AUDIT_ARCH_I386, UINT32_MAX, false },
};

static bool permissive(uint32_t action)
{
	/* A tracer is expected to know new calls itself. */
	return action == SCMP_ACT_ALLOW || action == SCMP_ACT_LOG || (action & 0xffff0000U) == SCMP_ACT_TRACE(0);
}

static int is_listed(const struct node *seccomp, const struct arch *arch, bool *listed, struct error *error)
{
	struct node list;
	const char *name;

	*listed = arch->native;
	if (opt_array(seccomp, "architectures", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_str(&list, i, &name, error) < 0)
			return -1;
		*listed |= strcmp(name, arch->name) == 0;
	}
	return 0;
}

/* The highest number among the names of a rule. Negative ones are libseccomp's own, for what the architecture does not have. */
static int highest_of(const struct node *rule, const struct arch *arch, int *highest, struct error *error)
{
	struct node names;
	const char *name;

	if (opt_array(rule, "names", &names, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&names); i++) {
		int number;

		if (array_str(&names, i, &name, error) < 0)
			return -1;
		number = seccomp_syscall_resolve_name_arch(arch->token, name);
		if (number > *highest)
			*highest = number;
	}
	return 0;
}

static void emit(const struct arch *arch, uint32_t highest, struct sock_filter *code)
{
	const struct sock_filter block[ENOSYS_BLOCK] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arch->audit, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, highest, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, arch->end, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};

	memcpy(code, block, sizeof(block));
}

int enosys_prelude(const struct node *seccomp, uint32_t default_action, struct sock_filter code[ENOSYS_MAX], struct error *error)
{
	struct node list, rule;
	int len = 0;

	if (permissive(default_action))
		return 0;
	if (opt_array(seccomp, "syscalls", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < ENOSYS_ARCHES; i++) {
		int highest = -1;
		bool listed;

		if (is_listed(seccomp, &arches[i], &listed, error) < 0)
			return -1;
		for (size_t k = 0; listed && k < array_len(&list); k++) {
			if (array_object(&list, k, &rule, error) < 0 || highest_of(&rule, &arches[i], &highest, error) < 0)
				return -1;
		}
		if (highest < 0)
			continue;
		emit(&arches[i], (uint32_t)highest, code + len);
		len += ENOSYS_BLOCK;
	}
	return len;
}
