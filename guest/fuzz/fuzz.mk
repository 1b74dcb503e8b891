# SPDX-License-Identifier: Apache-2.0
# The fuzz targets: what reads bytes or JSON from outside, without what it would do with them. One program each, with clang's libFuzzer.

FUZZ_CC     ?= clang
FUZZ_CFLAGS := $(filter-out -MMD -MP,$(BASE)) -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

FUZZ_frames := conn jsonget error wire loop
FUZZ_oci    := mount_options caps identity program seccomp seccomp_built seccomp_enosys cgroup_limits jsonget error
FUZZ_mux    := mux mux_channel wire loop
FUZZ_packets := packets wire loop
FUZZ_clients := monitor_clients monitor_client wire loop
FUZZ_log    := monitor_log monitor_text
FUZZ_tar    := tar
FUZZ_touch  := touch_order
FUZZ        := frames oci mux packets clients log tar touch

fuzz: $(addprefix $(O)/fuzz-,$(FUZZ))

define fuzz_rule
$(O)/fuzz-$(1): fuzz/$(1).c $(addsuffix .c,$(FUZZ_$(1))) $(foreach folder,$(FOLDERS),$(wildcard $(folder)/*.h)) | $(O)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -o $$@ $$(filter %.c,$$^) -lseccomp -ljansson -lm
endef
$(foreach target,$(FUZZ),$(eval $(call fuzz_rule,$(target))))
