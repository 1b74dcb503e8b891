#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# systemd.sh STAGE FOLDER: systemd as PID 1 over the host's own files, which stay as they are. Runs in mount, pid, network, UTS, IPC and cgroup
# namespaces of its own. FOLDER must be below a file system that stays visible; STAGE is where the project is installed.
set -eu
stage=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$2"
root=$2/root
mkdir "$2/upper" "$2/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$root"
mount -t proc proc "$root/proc"
# Read-only, as in any container: udev and its kin are then none of systemd's business.
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
for folder in dev/shm run tmp var/lib; do
    mount -t tmpfs tmpfs "$root/$folder"
done
mkdir -p "$root$stage"
mount --bind "$stage" "$root$stage"
units=$root/etc/systemd/system
rm -rf "$units"/*.wants "$units"/*.requires
cp "$stage/lib/systemd/system/hyperd.service" "$stage/lib/systemd/system/hyperd.socket" "$units"
# Of the host's kernel, which is not ours to change.
for unit in systemd-sysctl.service systemd-modules-load.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount; do
    ln -sf /dev/null "$units/$unit"
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >"$units/lab.target"
mkdir "$root/old"
cd "$root"
pivot_root . old
umount -l /old
systemd-sysusers "$stage/lib/sysusers.d/hyperd.conf"
ip link set lo up
export container=lab
exec /lib/systemd/systemd --system --unit=lab.target --log-target=journal
