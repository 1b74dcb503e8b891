/* SPDX-License-Identifier: Apache-2.0 */
#include "seccomp.h"

#include <ctype.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "seccomp_built.h"
#include "seccomp_enosys.h"

enum { ARGS_MAX = 6, TRACE_DEFAULT = EPERM };

static const struct {
	const char *name;
	uint32_t action; /* with an errno or a message where it takes one */
	bool number;
} actions[] = {
	{ "SCMP_ACT_KILL", SCMP_ACT_KILL, false },
	{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD, false },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS, false },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP, false },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0), true },
	{ "SCMP_ACT_TRACE", SCMP_ACT_TRACE(0), true },
	{ "SCMP_ACT_LOG", SCMP_ACT_LOG, false },
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW, false },
};

static const struct {
	const char *name;
	enum scmp_compare op;
} operators[] = {
	{ "SCMP_CMP_NE", SCMP_CMP_NE }, { "SCMP_CMP_LT", SCMP_CMP_LT }, { "SCMP_CMP_LE", SCMP_CMP_LE },
	{ "SCMP_CMP_EQ", SCMP_CMP_EQ }, { "SCMP_CMP_GE", SCMP_CMP_GE }, { "SCMP_CMP_GT", SCMP_CMP_GT },
	{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
};

static const struct {
	const char *name;
	unsigned int flag;
} filter_flags[] = {
	{ "SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC },
	{ "SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG },
	{ "SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
};

static void release(scmp_filter_ctx *context)
{
	if (*context)
		seccomp_release(*context);
}

static int parse_action(const struct node *node, const char *member, const char *errno_member, uint32_t *action, struct error *error)
{
	const char *name;
	int64_t number = EPERM;

	if (get_str(node, member, &name, error) < 0 || opt_int(node, errno_member, 0, 4095, &number, error) < 0)
		return -1;
	if (strcmp(name, "SCMP_ACT_NOTIFY") == 0)
		return error_set(error, KIND_UNSUPPORTED, "SCMP_ACT_NOTIFY is not supported: its listener would have to live outside of the guest");
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (strcmp(actions[i].name, name) == 0) {
			*action = actions[i].action | (actions[i].number ? (uint32_t)number : 0);
			return 0;
		}
	}
	return node_fail(node, member, error, "is not a known action");
}

static int add_architectures(scmp_filter_ctx context, const struct node *seccomp, struct error *error)
{
	static const char prefix[] = "SCMP_ARCH_";
	struct node list;
	const char *name;

	if (opt_array(seccomp, "architectures", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		char word[32] = "";
		uint32_t arch = 0;
		int result;

		if (array_str(&list, i, &name, error) < 0)
			return -1;
		if (strncmp(name, prefix, sizeof(prefix) - 1) == 0 && strlen(name) < sizeof(word)) {
			for (size_t c = 0; name[sizeof(prefix) - 1 + c]; c++)
				word[c] = (char)tolower((unsigned char)name[sizeof(prefix) - 1 + c]);
			arch = seccomp_arch_resolve_name(word);
		}
		if (!arch)
			return node_fail(seccomp, "architectures", error, "has an unknown entry");
		result = seccomp_arch_add(context, arch);
		/* EEXIST: the native one is always in; EDOM: one of another byte order, which this kernel never runs */
		if (result < 0 && result != -EEXIST && result != -EDOM)
			return error_sys(error, -result, "cannot add architecture %s to the seccomp filter", name);
	}
	return 0;
}

struct rule {
	uint32_t action;
	struct scmp_arg_cmp args[ARGS_MAX];
	unsigned int count;
	bool repeats; /* an argument is looked at twice */
};

static int parse_arg(const struct node *entry, struct scmp_arg_cmp *arg, struct error *error)
{
	uint64_t value = 0, second = 0;
	const char *op;
	int64_t index;

	if (get_int(entry, "index", 0, ARGS_MAX - 1, &index, error) < 0 || get_u64(entry, "value", &value, error) < 0 ||
	    opt_u64(entry, "valueTwo", &second, error) < 0 || get_str(entry, "op", &op, error) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
		if (strcmp(operators[i].name, op) == 0) {
			*arg = (struct scmp_arg_cmp){ (unsigned int)index, operators[i].op, value, second };
			return 0;
		}
	}
	return node_fail(entry, "op", error, "is not a known operator");
}

static int parse_rule(const struct node *entry, struct rule *rule, struct error *error)
{
	unsigned int seen = 0;
	struct node list, arg;

	memset(rule, 0, sizeof(*rule));
	if (parse_action(entry, "action", "errnoRet", &rule->action, error) < 0 || opt_array(entry, "args", &list, error) < 0)
		return -1;
	if (array_len(&list) > ARGS_MAX)
		return node_fail(entry, "args", error, "has too many entries");
	rule->count = (unsigned int)array_len(&list);
	for (unsigned int i = 0; i < rule->count; i++) {
		if (array_object(&list, i, &arg, error) < 0 || parse_arg(&arg, &rule->args[i], error) < 0)
			return -1;
		rule->repeats |= seen & 1u << rule->args[i].arg;
		seen |= 1u << rule->args[i].arg;
	}
	return 0;
}

/* libseccomp cannot look at one argument twice in a rule; as in runc each condition is then a rule of its own. */
static int add_rule(scmp_filter_ctx context, const struct rule *rule, int number)
{
	int result = 0;

	if (!rule->repeats)
		return seccomp_rule_add_array(context, rule->action, number, rule->count, rule->args);
	for (unsigned int i = 0; i < rule->count && (result >= 0 || result == -EEXIST); i++)
		result = seccomp_rule_add_array(context, rule->action, number, 1, &rule->args[i]);
	return result;
}

static int add_syscalls(scmp_filter_ctx context, const struct node *entry, uint32_t default_action, struct error *error)
{
	struct rule rule;
	struct node names;

	if (parse_rule(entry, &rule, error) < 0 || opt_array(entry, "names", &names, error) < 0)
		return -1;
	/* libseccomp refuses rules that change nothing. */
	if (rule.action == default_action)
		return 0;
	for (size_t i = 0; i < array_len(&names); i++) {
		const char *name;
		int number, result;

		if (array_str(&names, i, &name, error) < 0)
			return -1;
		number = seccomp_syscall_resolve_name(name);
		/* Profiles name what other architectures and newer kernels have. */
		if (number == __NR_SCMP_ERROR)
			continue;
		result = add_rule(context, &rule, number);
		if (result < 0 && result != -EEXIST)
			return error_sys(error, -result, "cannot add %s to the seccomp filter", name);
	}
	return 0;
}

static int parse_flags(const struct node *seccomp, unsigned int *flags, struct error *error)
{
	struct node list;
	const char *name;

	if (opt_array(seccomp, "flags", &list, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		unsigned int flag = 0;

		if (array_str(&list, i, &name, error) < 0)
			return -1;
		for (size_t k = 0; k < sizeof(filter_flags) / sizeof(filter_flags[0]); k++)
			flag |= strcmp(filter_flags[k].name, name) == 0 ? filter_flags[k].flag : 0;
		if (!flag)
			return error_set(error, KIND_UNSUPPORTED, "seccomp flag \"%.64s\" is not supported", name);
		*flags |= flag;
	}
	return 0;
}

/* libseccomp's program as a file. */
static int export_code(scmp_filter_ctx context, size_t *len, struct error *error)
{
	cleanup_close int fd = memfd_create("seccomp", MFD_CLOEXEC);
	struct stat st;
	int result;

	if (fd < 0)
		return error_sys(error, errno, "cannot make a memory file");
	result = seccomp_export_bpf(context, fd);
	if (result < 0)
		return error_sys(error, -result, "cannot build the seccomp filter");
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || (size_t)st.st_size / sizeof(struct sock_filter) > BPF_MAXINSNS - ENOSYS_MAX)
		return error_sys(error, E2BIG, "cannot use the seccomp filter");
	*len = (size_t)st.st_size;
	return steal_fd(&fd);
}

static int export_filter(scmp_filter_ctx context, const struct node *seccomp, uint32_t action, struct seccomp_program *program,
			 struct error *error)
{
	size_t len = 0;
	cleanup_close int fd = export_code(context, &len, error);
	cleanup_free struct sock_filter *code = NULL;
	int prelude;

	if (fd < 0)
		return -1;
	code = malloc(len + ENOSYS_MAX * sizeof(*code));
	if (!code)
		return error_sys(error, ENOMEM, "cannot make a seccomp filter");
	prelude = enosys_prelude(seccomp, action, code, error);
	if (prelude < 0)
		return -1;
	if (pread(fd, code + prelude, len, 0) != (ssize_t)len)
		return error_sys(error, EIO, "cannot read the seccomp filter");
	program->filter.len = (unsigned short)((size_t)prelude + len / sizeof(*code));
	program->filter.filter = code;
	code = NULL;
	return 0;
}

int seccomp_build(const struct node *linux_node, struct seccomp_program *program, struct error *error)
{
	__attribute__((cleanup(release))) scmp_filter_ctx context = NULL;
	struct node seccomp, list, entry;
	uint32_t action;
	int found = opt_object(linux_node, "seccomp", &seccomp, error);

	memset(program, 0, sizeof(*program));
	if (found <= 0)
		return found;
	found = seccomp_built(&seccomp, program, error);
	if (found)
		return found < 0 ? -1 : 0;
	/* An empty profile is none, as with runc. */
	if (!has_member(&seccomp, "defaultAction") && json_array_size(json_object_get(seccomp.json, "syscalls")) == 0)
		return 0;
	if (parse_action(&seccomp, "defaultAction", "defaultErrnoRet", &action, error) < 0 || parse_flags(&seccomp, &program->flags, error) < 0 ||
	    opt_array(&seccomp, "syscalls", &list, error) < 0)
		return -1;
	context = seccomp_init(action);
	if (!context)
		return error_sys(error, ENOMEM, "cannot make a seccomp filter");
	/* runc loads filters that leave no_new_privs to the process itself. */
	(void)seccomp_attr_set(context, SCMP_FLTATR_CTL_NNP, 0);
	if (add_architectures(context, &seccomp, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &entry, error) < 0 || add_syscalls(context, &entry, action, error) < 0)
			return -1;
	}
	return export_filter(context, &seccomp, action, program, error);
}

int seccomp_install(const struct seccomp_program *program, struct error *error)
{
	if (program->filter.len == 0)
		return 0;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, program->flags, &program->filter) < 0)
		return error_sys(error, errno, "cannot load the seccomp filter");
	return 0;
}
