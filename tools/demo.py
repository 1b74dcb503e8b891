#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""``make run``: a busybox root file system, a bundle, and a container in its own VM.

Arguments: the runv to use, and the folder that becomes the bundle.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
ARGS = ["sh", "-c", 'echo helloworld; echo "guest kernel: $(uname -r)"']


def make_rootfs(rootfs: Path) -> None:
    """Debian's busybox, and a link for each of its programs. The folder is there complete or not at all."""
    if rootfs.exists():
        return
    temp = rootfs.with_name(f".rootfs.{os.getpid()}")
    try:
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            (temp / folder).mkdir(parents=True)
        shutil.copy(BUSYBOX, temp / "bin/busybox")
        for applet in output_of(str(BUSYBOX), "--list").split():
            link = temp / "bin" / applet
            if not link.exists():
                link.symlink_to("busybox")
        temp.rename(rootfs)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def make_bundle(runv: str, folder: Path) -> None:
    """What ``runv spec`` says, with our command and without a terminal."""
    path = folder / "config.json"
    path.unlink(missing_ok=True)
    subprocess.run([runv, "spec", "--bundle", str(folder)], check=True)
    config: dict[str, Any] = json.loads(path.read_text())
    config["process"] |= {"terminal": False, "args": ARGS}
    path.write_text(json.dumps(config, indent=2))


def output_of(*argv: str) -> str:
    """Stdout of a program that is expected to work."""
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> int:
    """Entry point."""
    runv, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    make_rootfs(folder / "rootfs")
    make_bundle(runv, folder)
    identifier = f"demo-{os.getpid()}"
    print(f"$ runv run --bundle {folder} {identifier}", flush=True)
    status = subprocess.run([runv, "run", "--bundle", str(folder), identifier], check=False).returncode
    if status == 0:
        print(f"host kernel:  {os.uname().release}")
    return status


if __name__ == "__main__":
    sys.exit(main())
