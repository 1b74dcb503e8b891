"""The root file system that tests run containers in."""

import shutil
import subprocess
from pathlib import Path

BUSYBOX = Path("/bin/busybox")


def make_rootfs(root: Path) -> None:
    """A root file system of busybox and little else."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "home/alice"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for applet in subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nalice:x:1000:\n")
    (root / "etc/not-executable").write_text("no\n")
