#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that are missing.
#
#   setup.sh run      what is needed to build runv and run a container
#   setup.sh test     and what the tests use
#   setup.sh bench    and the other runtimes of the benchmarks, and what they are built with
#   setup.sh conformance    and what the validation programs of the OCI need
#   setup.sh qemu     what is needed to build a QEMU of runv's own
set -eu

cache=${RUNV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/runv}

# qemu-system-common has virtiofsd.
run_packages='python3 python3-venv gcc make libc6-dev libseccomp-dev libjansson-dev qemu-system-x86 qemu-system-common
    linux-source-6.1 flex bison bc libelf-dev libssl-dev xz-utils cpio kmod perl busybox-static nftables conntrack
    e2fsprogs xfsprogs'
# runc is what runv is compared with; clang has libFuzzer; docker.io, containerd and podman: the tests run some of their own; zsh, fish
# and mandoc read what is made for them; systemd runs the units.
test_packages='runc clang libclang-rt-14-dev procps iproute2 iputils-ping strace attr acl util-linux docker.io containerd iptables
    skopeo umoci docker-registry apache2-utils zsh fish mandoc erofs-utils qemu-utils
    podman netavark aardvark-dns catatonit containernetworking-plugins systemd python3-grpcio python3-protobuf protobuf-compiler'
bench_packages='crun golang-go ca-certificates'
# crun is the second runtime they are run with.
conformance_packages='golang-go ca-certificates runc crun procps util-linux'
# What is linked into QEMU is of glibc and libseccomp as well. dpkg-dev unpacks its source.
qemu_packages='qemu-system-x86 dpkg-dev gcc libc6-dev libseccomp-dev meson ninja-build patch pkg-config python3 libglib2.0-dev libpixman-1-dev libcap-ng-dev
    libattr1-dev zlib1g-dev libfdt-dev'

case ${1-} in
    run) wanted=$run_packages ;;
    test) wanted="$run_packages
    $test_packages" ;;
    bench) wanted="$run_packages
    $test_packages
    $bench_packages" ;;
    conformance) wanted="$run_packages
    $conformance_packages" ;;
    qemu) wanted=$qemu_packages ;;
    *)
        echo "usage: $0 run|test|bench|conformance|qemu" >&2
        exit 2
        ;;
esac

missing() {
    # shellcheck disable=SC2086 # a list
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null) || true
    for package in $wanted; do
        printf '%s\n' "$installed" | grep -qxF "$package installed" || printf '%s ' "$package"
    done
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1
}

fail() {
    cat "$log" >&2
    echo "setup: $1" >&2
    exit 1
}

if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is no Debian; expecting the equivalents of: $wanted" >&2
    exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

packages=$(missing)
if [ -n "$packages" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: missing Debian packages; as root: apt-get install --no-install-recommends $packages" >&2
        exit 1
    fi
    echo "setup: installing $packages"
    # The lists of packages may be absent, or name versions that are gone.
    # shellcheck disable=SC2086
    if ! apt install -y --no-install-recommends $packages; then
        echo "setup: updating the lists of packages"
        apt update || fail 'apt-get update failed'
        # shellcheck disable=SC2086
        apt install -y --no-install-recommends $packages || fail "cannot install $packages"
    fi
fi

# The lab downloads its kernel by the lists of packages, and that only once.
if [ "$1" = test ] && [ -z "${RUNV_LAB_KERNEL-}" ] && ! ls "$cache"/lab/linux-image-* >/dev/null 2>&1; then
    echo "setup: updating the lists of packages"
    apt update || fail 'apt-get update failed'
fi
