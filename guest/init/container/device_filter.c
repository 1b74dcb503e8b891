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

/* What engines' lists say beyond that, in most cases: nothing, or the console. */
static const struct rule console = { true, BPF_DEVCG_DEV_CHAR, 5, 1, RWM };

struct rules {
	struct rule rules[RULES_MAX];
	size_t count;
};

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

static bool covers(int64_t number, int64_t other)
{
	return number == ANY || number == other;
}

static bool is_default(const struct rule *rule)
{
	for (size_t i = 0; i < DEFAULTS; i++) {
		if (rule->type == defaults[i].type && covers(defaults[i].major, rule->major) && covers(defaults[i].minor, rule->minor) &&
		    !(rule->access & ~defaults[i].access))
			return true;
	}
	return false;
}

static bool meet(int64_t number, int64_t other)
{
	return covers(number, other) || covers(other, number);
}

static bool denies_allowed(const struct rules *rules, const struct rule *denial)
{
	for (size_t i = 0; i < rules->count; i++) {
		const struct rule *rule = &rules->rules[i];

		if (rule->allow && rule->access & denial->access && meet(rule->type, denial->type) && meet(rule->major, denial->major) &&
		    meet(rule->minor, denial->minor))
			return true;
	}
	return false;
}

/*
 * The list without what changes nothing: what every container may use anyway, and what was not allowed before. Of most lists little is left, and the
 * kernel's look at a program, which takes longer than all else of a container's cgroup, can be spared.
 */
static int reduce(const struct node *list, struct rules *rules, struct error *error)
{
	struct node entry;
	struct rule rule;

	for (size_t i = 0; i < array_len(list); i++) {
		if (array_object(list, i, &entry, error) < 0 || parse_rule(&entry, &rule, error) < 0)
			return -1;
		if (rule.allow ? !is_default(&rule) : denies_allowed(rules, &rule))
			rules->rules[rules->count++] = rule;
	}
	return 0;
}

/* The last rule that fits decides, so the program looks at the last one first. What none allows is denied. */
static void build(const struct rules *rules, struct program *program)
{
	emit_start(program);
	for (size_t i = DEFAULTS; i > 0; i--)
		emit_rule(program, &defaults[i - 1]);
	for (size_t i = rules->count; i > 0; i--)
		emit_rule(program, &rules->rules[i - 1]);
	emit_exit(program, 0);
}

/* A descriptor, or -1 with errno. */
static int load(const struct rules *rules)
{
	cleanup_free struct program *program = calloc(1, sizeof(*program));
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.license = (uint64_t)(uintptr_t) "Apache-2.0",
	};

	if (!program)
		return -1;
	build(rules, program);
	load.insns = (uint64_t)(uintptr_t)program->insns;
	load.insn_cnt = program->len;
	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
}

/* Which of the kept filters says the same, or -1 */
static int kept_filter(const struct rules *rules)
{
	const struct rule *rule = &rules->rules[0];

	if (rules->count == 0)
		return 0;
	return rules->count == 1 && rule->allow && rule->type == console.type && rule->major == console.major && rule->minor == console.minor &&
			       rule->access == console.access ?
		       1 :
		       -1;
}

void device_filters_keep(int kept[DEVICE_FILTERS_KEPT])
{
	cleanup_free struct rules *rules = calloc(1, sizeof(*rules));

	for (size_t i = 0; i < DEVICE_FILTERS_KEPT; i++) {
		kept[i] = rules ? load(rules) : -1;
		if (rules)
			rules->rules[rules->count++] = console;
	}
}

static int attach(int cgroup_fd, int filter, struct error *error)
{
	union bpf_attr attach = { .target_fd = (uint32_t)cgroup_fd, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI };

	attach.attach_bpf_fd = (uint32_t)filter;
	if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)) < 0)
		return error_sys(error, errno, "cannot attach the device filter");
	return 0;
}

int device_filter_attach(int cgroup_fd, const struct node *resources, const int kept[DEVICE_FILTERS_KEPT], struct error *error)
{
	cleanup_free struct rules *rules = NULL;
	cleanup_close int made = -1;
	struct node list;
	int index;

	if (opt_array(resources, "devices", &list, error) < 0)
		return -1;
	if (array_len(&list) > RULES_MAX)
		return node_fail(resources, "devices", error, "has too many entries");
	rules = calloc(1, sizeof(*rules));
	if (!rules)
		return error_sys(error, ENOMEM, "cannot make the device filter");
	if (reduce(&list, rules, error) < 0)
		return -1;
	index = kept_filter(rules);
	if (index >= 0 && kept[index] >= 0)
		return attach(cgroup_fd, kept[index], error);
	made = load(rules);
	return made < 0 ? error_sys(error, errno, "cannot load the device filter") : attach(cgroup_fd, made, error);
}
