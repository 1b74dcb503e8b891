#!/bin/busybox sh
# PID 1 of the lab, first half: load what the root needs, lay out the file tree under /new, and move there.
# The host's root is mounted read-only; what is written goes to a tmpfs above it and is gone at the end.

/bin/busybox --install -s /bin
export PATH=/bin

fail() {
    echo "lab: $*" >/dev/console
    poweroff -f
}

# The functions that mounts.sh calls.
put_aside() { # NUMBER PATH: keep sight of a path that a tmpfs is about to cover
    mkdir -p "/aside"
    # A link leads elsewhere in the new root, and is kept as it is.
    if [ -L "/new$2" ]; then cp -P "/new$2" "/aside/$1" && return; fi
    if [ -d "/new$2" ]; then mkdir "/aside/$1"; else : >"/aside/$1"; fi
    mount --bind "/new$2" "/aside/$1" || fail "cannot bind $2"
}
add_tmpfs() { # PATH
    mode=0755
    [ "$1" = /tmp ] && mode=1777
    mkdir -p "/new$1"
    mount -t tmpfs -o "mode=$mode" tmpfs "/new$1" || fail "cannot mount a tmpfs on $1"
}
bring_back() { # NUMBER PATH dir|file
    mkdir -p "/new${2%/*}"
    if [ -L "/aside/$1" ]; then cp -P "/aside/$1" "/new$2" && return; fi
    if [ "$3" = dir ]; then mkdir -p "/new$2"; else : >"/new$2"; fi
    mount --bind "/aside/$1" "/new$2" || fail "cannot bind $2"
}
add_modules() { # FOLDER RELEASE: modprobe, and the kernel when it needs one, find the modules where they belong
    mkdir -p "/new/lib/modules/$2"
    mount --bind "/host$1" "/new/lib/modules/$2" || fail "cannot bind the modules"
}
add_results() { # PATH
    mkdir -p "/new$1"
    mount -t virtiofs lab-results "/new$1" || fail "cannot mount $1"
}

mkdir -p /proc /sys /host /upper /new
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do
    insmod "$module" || fail "cannot load $module"
done

mount -t virtiofs -o ro lab-root /host || fail "cannot mount the host's root"
mount -t tmpfs -o size=75% tmpfs /upper || fail "cannot mount a tmpfs"
mkdir /upper/upper /upper/work
mount -t overlay -o lowerdir=/host,upperdir=/upper/upper,workdir=/upper/work overlay /new || fail "cannot mount the root"
mkdir -p /new/proc /new/sys /new/dev
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /new/dev/shm
ln -sf /proc/self/fd /new/dev/fd
ln -sf /proc/self/fd/0 /new/dev/stdin
ln -sf /proc/self/fd/1 /new/dev/stdout
ln -sf /proc/self/fd/2 /new/dev/stderr
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup || fail "cannot mount cgroup2"
. /lab/mounts.sh

mkdir -p /new/run/lab
cp -a /lab/. /bin/busybox /new/run/lab/
umount /proc /sys /dev
# PID 1 shares its root with the kernel's threads, so that the kernel's own modprobe runs in the new root, too.
exec switch_root /new /run/lab/busybox sh /run/lab/start.sh
