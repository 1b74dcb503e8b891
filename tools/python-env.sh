#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make the folders of Python packages, once for each list of requirements and interpreter.
#
#   python-env.sh venv                 a virtual environment with the dependencies and the tools of development
#   python-env.sh bench                one with the dependencies and what the benchmarks draw with
#   python-env.sh deps                 a folder with the dependencies alone: what is installed beside runv
#   python-env.sh hyperd-deps          one with those and hyperd's: what is installed beside hyperd and hyperctl
#   python-env.sh --print-path KIND    only say where it is
set -eu

cache=${RUNV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/runv}
python=${PYTHON:-/usr/bin/python3}
root=$(cd "$(dirname "$0")/.." && pwd)

print_only=
if [ "${1-}" = --print-path ]; then
    print_only=1
    shift
fi
kind=${1-}
case $kind in
    venv | bench | deps | hyperd-deps) ;;
    *)
        echo "usage: $0 [--print-path] venv|bench|deps|hyperd-deps" >&2
        exit 2
        ;;
esac

requirements=$("$python" - "$root/pyproject.toml" "$kind" <<'PYTHON'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
print(*project["dependencies"], sep="\n")
for extra in {"venv": ["hyperd", "dev"], "bench": ["hyperd", "bench"], "hyperd-deps": ["hyperd"]}.get(sys.argv[2], []):
    print(*project["optional-dependencies"][extra], sep="\n")
PYTHON
)
version=$("$python" -VV)
key=$(printf '%s\n' "$requirements" "$version" "$python" | sha256sum | cut -c1-12)
folder=$cache/$kind-$key

if [ -n "$print_only" ]; then
    echo "$folder"
    exit 0
fi

pip_install() {
    environment=$1
    shift
    "$environment/bin/python" -m pip --quiet --disable-pip-version-check --no-input \
        install --root-user-action=ignore -r "$list" "$@"
}

make_venv() {
    "$python" -m venv "$folder"
    pip_install "$folder"
}

make_deps() {
    # Debian's own pip need not be there; the one of a virtual environment always is.
    "$python" -m venv "$folder.pip"
    pip_install "$folder.pip" --target "$folder"
    rm -rf "$folder.pip" "${folder:?}/bin"
    "$python" -m compileall -q "$folder"
}

mkdir -p "$cache"
exec 9>"$cache/$kind.lock"
flock 9

# The mark is written last: a folder without it is what an interruption left.
if [ -e "$folder/.complete" ]; then
    exit 0
fi
rm -rf "$folder" "$folder.pip"
list=$(mktemp)
trap 'rm -f "$list"; [ -e "$folder/.complete" ] || rm -rf "$folder" "$folder.pip"' EXIT
trap 'exit 130' HUP INT TERM
printf '%s\n' "$requirements" >"$list"
case $kind in
    venv) echo "setup: installing Python packages for development into $folder" ;;
    bench) echo "setup: installing Python packages for the benchmarks into $folder" ;;
    *deps) echo "setup: installing Python packages into $folder" ;;
esac
case $kind in
    venv | bench) make_venv ;;
    *) make_deps ;;
esac
: >"$folder/.complete"
