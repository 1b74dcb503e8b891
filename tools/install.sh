#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install runv below $DESTDIR$PREFIX, or remove it. What is in use is replaced, never written over; what is unchanged stays.
#
#   install.sh install      from $BUILD (make guest), $DEPS and $HYPERD_DEPS (python-env.sh), $KERNEL (a vmlinux) and,
#                           where that is there, $QEMU (make qemu)
#   install.sh uninstall
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
to=${DESTDIR-}${PREFIX:?}
lib=$to/lib/runv

# put MODE SOURCE TARGET
put() {
    if [ -x "$3" ] || [ "$1" = 0644 ]; then
        cmp -s "$2" "$3" && return
    fi
    install -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
}

# replace FOLDER: FOLDER.new takes its place
replace() {
    rm -rf "$1.old"
    [ ! -e "$1" ] || mv "$1" "$1.old"
    mv "$1.new" "$1"
    rm -rf "$1.old"
}

# install_package NAME
install_package() {
    diff -rq -x __pycache__ "$root/$1" "$lib/$1" >/dev/null 2>&1 && return
    rm -rf "$lib/$1.new"
    mkdir "$lib/$1.new"
    (cd "$root/$1" && find . -name __pycache__ -prune -o -type f -print | cpio -pdm --quiet "$lib/$1.new")
    find "$lib/$1.new" -type d -exec chmod 0755 {} +
    find "$lib/$1.new" -type f -exec chmod 0644 {} +
    # The files are to say where they will be, not where they are while they are being staged.
    "${PYTHON:-/usr/bin/python3}" -m compileall -q -s "$lib/$1.new" -p "$PREFIX/lib/runv/$1" "$lib/$1.new"
    replace "$lib/$1"
}

# install_deps SOURCE TARGET
install_deps() {
    name=$(basename "$1")
    [ "$(cat "$2/.name" 2>/dev/null)" != "$name" ] || return 0
    rm -rf "$2.new"
    cp -a "$1" "$2.new"
    chmod -R u=rwX,go=rX "$2.new"
    echo "$name" >"$2.new/.name"
    replace "$2"
}

case ${1-} in
    install)
        install -d "$to/bin" "$to/lib" "$lib" "$to/libexec" "$to/libexec/runv" "$to/share" "$to/share/runv"
        install_deps "${DEPS:?}" "$lib/deps"
        install_deps "${HYPERD_DEPS:?}" "$lib/hyperd-deps"
        for package in runv hyperd hyperctl; do
            install_package "$package"
        done
        put 0755 "${BUILD:?}/guest-plain/runv-standin" "$to/libexec/runv/runv-standin"
        put 0755 "$BUILD/guest-plain/runv-bridge" "$to/libexec/runv/runv-bridge"
        put 0644 "$BUILD/guest-plain/runv-qemu-shim.so" "$to/libexec/runv/runv-qemu-shim.so"
        put 0755 "$BUILD/guest-plain/runv-filter" "$to/libexec/runv/runv-filter"
        put 0755 "$BUILD/guest-plain/runv-relay" "$to/libexec/runv/runv-relay"
        put 0755 "$BUILD/guest-plain/runv-watch" "$to/libexec/runv/runv-watch"
        put 0755 "$BUILD/guest-plain/runv-monitor" "$to/libexec/runv/runv-monitor"
        [ ! -x "${QEMU-}" ] || put 0755 "$QEMU" "$to/libexec/runv/qemu-system-x86_64"
        put 0644 "$BUILD/initrd.img" "$to/share/runv/initrd.img"
        put 0644 "${KERNEL:?}" "$to/share/runv/vmlinux"
        put 0644 "$BUILD/busybox.tar" "$to/share/runv/busybox.tar"
        put 0755 "$root/tools/launcher.py" "$to/bin/runv"
        put 0755 "$root/tools/hyper-launcher.py" "$to/bin/hyperctl"
        put 0755 "$root/tools/hyper-launcher.py" "$to/bin/hyperd"
        install -d "$to/lib/systemd" "$to/lib/systemd/system"
        sed "s|@PREFIX@|$PREFIX|" "$root/hyperd/systemd/hyperd.service" >"$to/lib/systemd/system/hyperd.service.new"
        chmod 0644 "$to/lib/systemd/system/hyperd.service.new"
        mv -f "$to/lib/systemd/system/hyperd.service.new" "$to/lib/systemd/system/hyperd.service"
        put 0644 "$root/hyperd/systemd/hyperd.socket" "$to/lib/systemd/system/hyperd.socket"
        install -d "$to/lib/sysusers.d"
        put 0644 "$root/hyperd/systemd/hyperd.sysusers" "$to/lib/sysusers.d/hyperd.conf"
        PYTHONPATH=$lib/hyperd-deps "${PYTHON:-/usr/bin/python3}" -B "$root/tools/manual.py" install "$to/share"
        ;;
    uninstall)
        PYTHONPATH=$lib/hyperd-deps "${PYTHON:-/usr/bin/python3}" -B "$root/tools/manual.py" uninstall "$to/share"
        rm -f "$to/bin/runv" "$to/bin/hyperd" "$to/bin/hyperctl"
        rm -f "$to/lib/systemd/system/hyperd.service" "$to/lib/systemd/system/hyperd.socket" "$to/lib/sysusers.d/hyperd.conf"
        rm -rf "$lib/runv" "$lib/hyperd" "$lib/hyperctl" "$lib/deps" "$lib/hyperd-deps"
        rm -f "$to/libexec/runv/runv-standin" "$to/libexec/runv/runv-bridge" "$to/libexec/runv/runv-relay" "$to/libexec/runv/runv-filter" "$to/libexec/runv/runv-watch" "$to/libexec/runv/runv-monitor" "$to/libexec/runv/runv-qemu-shim.so" "$to/libexec/runv/qemu-system-x86_64"
        rm -f "$to/share/runv/initrd.img" "$to/share/runv/vmlinux" "$to/share/runv/busybox.tar"
        for folder in "$lib" "$to/libexec/runv" "$to/share/runv" "$to/lib/systemd/system" "$to/lib/systemd" "$to/lib/sysusers.d"; do
            [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty "$folder"
        done
        ;;
    *)
        echo "usage: $0 install|uninstall" >&2
        exit 2
        ;;
esac
