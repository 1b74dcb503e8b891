/* SPDX-License-Identifier: Apache-2.0 */
#include "redirect.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* back: an answer's sender gets the address that was asked. mapped: a socket of IPv6 has ::ffff:ADDRESS there; what it sends comes by IPv4's hook. */
static const struct {
	enum bpf_attach_type attach;
	int type; /* 0: both */
	bool back, mapped;
} hooks[REDIRECT_LINKS] = {
	{ BPF_CGROUP_INET4_CONNECT, 0, false, false },
	{ BPF_CGROUP_INET6_CONNECT, 0, false, true },
	{ BPF_CGROUP_UDP4_SENDMSG, SOCK_DGRAM, false, false },
	{ BPF_CGROUP_UDP4_RECVMSG, SOCK_DGRAM, true, false },
	{ BPF_CGROUP_UDP6_RECVMSG, SOCK_DGRAM, true, true },
};

#define FIELD(name) ((int16_t)offsetof(struct bpf_sock_addr, name))
#define LOAD(field) { .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1, .off = FIELD(field) }
#define UNLESS(value, skip) { .code = BPF_JMP32 | BPF_JNE | BPF_K, .dst_reg = BPF_REG_2, .off = (skip), .imm = (int32_t)(value) }
#define SET(reg, value) { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (reg), .imm = (int32_t)(value) }
#define STORE(field) { .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_2, .off = FIELD(field) }

static int load_program(enum bpf_attach_type attach, const struct bpf_insn *program, size_t len)
{
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
		.expected_attach_type = attach,
		.insns = (uint64_t)(uintptr_t)program,
		.insn_cnt = (uint32_t)len,
		.license = (uint64_t)(uintptr_t) "Apache-2.0",
	};

	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
}

/* if (type == type && user_ip4 == address && user_port == from) user_port = to; return 1 */
static int load_plain(enum bpf_attach_type attach, int type, struct in_addr address, uint16_t from, uint16_t to)
{
	const struct bpf_insn program[] = {
		LOAD(type), UNLESS(type, 6),
		LOAD(user_ip4), UNLESS(address.s_addr, 4),
		LOAD(user_port), UNLESS(htons(from), 2),
		SET(BPF_REG_2, htons(to)), STORE(user_port),
		SET(BPF_REG_0, 1), { .code = BPF_JMP | BPF_EXIT },
	};

	return load_program(attach, program, sizeof(program) / sizeof(program[0]));
}

/* The same with user_ip6 == ::ffff:address */
static int load_mapped(enum bpf_attach_type attach, int type, struct in_addr address, uint16_t from, uint16_t to)
{
	const struct bpf_insn program[] = {
		LOAD(type), UNLESS(type, 12),
		LOAD(user_ip6[0]), UNLESS(0, 10),
		LOAD(user_ip6[1]), UNLESS(0, 8),
		LOAD(user_ip6[2]), UNLESS(htonl(0xffff), 6),
		LOAD(user_ip6[3]), UNLESS(address.s_addr, 4),
		LOAD(user_port), UNLESS(htons(from), 2),
		SET(BPF_REG_2, htons(to)), STORE(user_port),
		SET(BPF_REG_0, 1), { .code = BPF_JMP | BPF_EXIT },
	};

	return load_program(attach, program, sizeof(program) / sizeof(program[0]));
}

static int link_program(int cgroup, enum bpf_attach_type attach, int program)
{
	union bpf_attr link = { .link_create = { .prog_fd = (uint32_t)program, .target_fd = (uint32_t)cgroup, .attach_type = attach } };

	return (int)syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link));
}

int redirect_start(struct redirect *redirect, int type, const struct sockaddr_in *from, uint16_t port, struct error *error)
{
	cleanup_close int cgroup = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint16_t asked = ntohs(from->sin_port);

	*redirect = REDIRECT_NONE;
	for (size_t i = 0; i < REDIRECT_LINKS; i++) {
		cleanup_close int program = -1;

		if (hooks[i].type && hooks[i].type != type)
			continue;
		program = (hooks[i].mapped ? load_mapped : load_plain)(hooks[i].attach, type, from->sin_addr, hooks[i].back ? port : asked,
								       hooks[i].back ? asked : port);
		if (program >= 0)
			redirect->links[i] = link_program(cgroup, hooks[i].attach, program);
		if (program < 0 || redirect->links[i] < 0) {
			error_sys(error, errno, "cannot redirect port %u", asked);
			redirect_stop(redirect);
			return -1;
		}
	}
	return 0;
}

void redirect_stop(struct redirect *redirect)
{
	for (size_t i = 0; i < REDIRECT_LINKS; i++) {
		cleanup_closep(&redirect->links[i]);
		redirect->links[i] = -1;
	}
}
