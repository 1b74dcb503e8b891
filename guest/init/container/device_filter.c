/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices a container may make and open. cgroup v2 has no file for it but runs a program for each access; the list becomes one.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"

enum { RULES_MAX = 512, RULE_INSNS = 7, ANY = -1, RWM = BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD };

struct rule {
	bool allow;
	int type; /* BPF_DEVCG_DEV_*, or ANY */
	int64_t major, minor;
	int access;
};

/* What every container may use, whatever the caller's list says before. As in runc, nodes may be made of any device, but not opened. */
static const struct rule defaults[] = {
	{ true, BPF_DEVCG_DEV_CHAR, ANY, ANY, BPF_DEVCG_ACC_MKNOD },
	{ true, BPF_DEVCG_DEV_BLOCK, ANY, ANY, BPF_DEVCG_ACC_MKNOD },
	{ true, BPF_DEVCG_DEV_CHAR, 1, 3, RWM },     /* null */
	{ true, BPF_DEVCG_DEV_CHAR, 1, 5, RWM },     /* zero */
	{ true, BPF_DEVCG_DEV_CHAR, 1, 7, RWM },     /* full */
	{ true, BPF_DEVCG_DEV_CHAR, 1, 8, RWM },     /* random */
	{ true, BPF_DEVCG_DEV_CHAR, 1, 9, RWM },     /* urandom */
	{ true, BPF_DEVCG_DEV_CHAR, 5, 0, RWM },     /* tty */
	{ true, BPF_DEVCG_DEV_CHAR, 5, 2, RWM },     /* ptmx */
	{ true, BPF_DEVCG_DEV_CHAR, 136, ANY, RWM }, /* pts */
};

enum { DEFAULTS = sizeof(defaults) / sizeof(defaults[0]) };

struct program {
	struct bpf_insn insns[(RULES_MAX + DEFAULTS) * RULE_INSNS + 8];
	unsigned int len;
};

static void emit(struct program *program, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	program->insns[program->len++] = (struct bpf_insn){ .code = code, .dst_reg = dst & 0xf, .src_reg = src & 0xf, .off = off, .imm = imm };
}

static void emit_exit(struct program *program, int32_t verdict)
{
	emit(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, verdict);
	emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* Register 2: the type. 3: what of the access no rule has allowed yet. 4, 5: major and minor number. */
static void emit_start(struct program *program)
{
	emit(program, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
	emit(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_2, 0, 0);
	emit(program, BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
	emit(program, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
	emit(program, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
	emit(program, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
}

static void emit_rule(struct program *program, const struct rule *rule)
{
	const int64_t wanted[3] = { rule->type, rule->major, rule->minor };
	static const uint8_t registers[3] = { BPF_REG_2, BPF_REG_4, BPF_REG_5 };
	int16_t left = 4; /* the instructions of the verdict, to be jumped over */

	for (size_t i = 0; i < 3; i++)
		left = (int16_t)(left + (wanted[i] != ANY));
	for (size_t i = 0; i < 3; i++) {
		if (wanted[i] != ANY)
			emit(program, BPF_JMP32 | BPF_JNE | BPF_K, registers[i], 0, (int16_t)(--left), (int32_t)wanted[i]);
	}
	if (rule->allow) {
		emit(program, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_3, 0, 0, ~rule->access & RWM);
		emit(program, BPF_JMP32 | BPF_JNE | BPF_K, BPF_REG_3, 0, 2, 0);
		emit_exit(program, 1);
	} else {
		emit(program, BPF_JMP32 | BPF_JSET | BPF_K, BPF_REG_3, 0, 1, rule->access);
		emit(program, BPF_JMP | BPF_JA, 0, 0, 2, 0);
		emit_exit(program, 0);
	}
}

static int parse_access(const struct node *entry, int *access, struct error *error)
{
	const char *text = "rwm";

	*access = 0;
	if (opt_str(entry, "access", &text, error) < 0)
		return -1;
	for (const char *c = text; *c; c++) {
		if (*c == 'r')
			*access |= BPF_DEVCG_ACC_READ;
		else if (*c == 'w')
			*access |= BPF_DEVCG_ACC_WRITE;
		else if (*c == 'm')
			*access |= BPF_DEVCG_ACC_MKNOD;
		else
			return node_fail(entry, "access", error, "must be of r, w and m");
	}
	return 0;
}

static int parse_rule(const struct node *entry, struct rule *rule, struct error *error)
{
	const char *type = "a";

	*rule = (struct rule){ .major = ANY, .minor = ANY };
	if (opt_bool(entry, "allow", &rule->allow, error) < 0 || opt_str(entry, "type", &type, error) < 0 ||
	    opt_int(entry, "major", -1, INT32_MAX, &rule->major, error) < 0 || opt_int(entry, "minor", -1, INT32_MAX, &rule->minor, error) < 0)
		return -1;
	if (strcmp(type, "c") == 0)
		rule->type = BPF_DEVCG_DEV_CHAR;
	else if (strcmp(type, "b") == 0)
		rule->type = BPF_DEVCG_DEV_BLOCK;
	else if (strcmp(type, "a") == 0 || !*type)
		rule->type = ANY;
	else
		return node_fail(entry, "type", error, "must be a, b or c");
	return parse_access(entry, &rule->access, error);
}

/* The last rule that fits decides, so the program looks at the last one first. What none allows is denied. */
static int build(const struct node *list, struct program *program, struct error *error)
{
	struct node entry;
	struct rule rule;

	emit_start(program);
	for (size_t i = DEFAULTS; i > 0; i--)
		emit_rule(program, &defaults[i - 1]);
	for (size_t i = array_len(list); i > 0; i--) {
		if (array_object(list, i - 1, &entry, error) < 0 || parse_rule(&entry, &rule, error) < 0)
			return -1;
		emit_rule(program, &rule);
	}
	emit_exit(program, 0);
	return 0;
}

static int load(const struct bpf_insn *insns, unsigned int len)
{
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uint64_t)(uintptr_t)insns,
		.insn_cnt = len,
		.license = (uint64_t)(uintptr_t) "Apache-2.0",
	};

	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
}

int device_filter_first(void)
{
	static const struct bpf_insn deny[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return load(deny, sizeof(deny) / sizeof(deny[0]));
}

static int attach(int cgroup_fd, const struct program *program, struct error *error)
{
	union bpf_attr attach = { .target_fd = (uint32_t)cgroup_fd, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI };
	cleanup_close int fd = load(program->insns, program->len);

	if (fd < 0)
		return error_sys(error, errno, "cannot load the device filter");
	attach.attach_bpf_fd = (uint32_t)fd;
	if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)) < 0)
		return error_sys(error, errno, "cannot attach the device filter");
	return 0;
}

int device_filter_attach(int cgroup_fd, const struct node *resources, struct error *error)
{
	cleanup_free struct program *program = NULL;
	struct node list;

	if (opt_array(resources, "devices", &list, error) < 0)
		return -1;
	if (array_len(&list) > RULES_MAX)
		return node_fail(resources, "devices", error, "has too many entries");
	program = calloc(1, sizeof(*program));
	if (!program)
		return error_sys(error, ENOMEM, "cannot make the device filter");
	return build(&list, program, error) < 0 ? -1 : attach(cgroup_fd, program, error);
}
