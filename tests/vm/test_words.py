"""Words of runv's own among the options of mounts: parts of a shared folder, and memory with a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Bundle, Runtime
from .test_disks import join

pytestmark = pytest.mark.vm


def test_parts_of_folders_and_memory_with_a_name(runv: Runtime, make_bundle: Callable[[], Bundle], folder: Path) -> None:
    """Two containers of a pod. A part that is missing is made, and no link in a folder leads out of it; a tmpfs is the same for both, and outlives them."""
    shared = folder / "shared"
    (shared / "deep").mkdir(parents=True)
    (shared / "deep/file").write_text("part\n")
    (shared / "out").symlink_to("/etc")
    holder = runv.start(make_bundle().script("sleep 1000"))
    first = join(make_bundle(), holder).mount("/part", str(shared), "bind", "rbind", "ro", "x-runv.subpath=deep")
    first.mount("/file", str(shared), "bind", "bind", "x-runv.subpath=deep/file").mount("/new", str(shared), "bind", "bind", "x-runv.subpath=out/made/here")
    first.mount("/memory", "tmpfs", "tmpfs", "size=64k", "nosuid", "x-runv.shared=one")
    done = runv.run_bundle(
        first.script(
            "cat /part/file; touch /part/x || echo refused; echo changed >/file; echo made >/new/file; echo kept >/memory/file; mkdir -p /memory/a;"
            "stat -c %a /memory; dd if=/dev/zero of=/memory/big bs=1k count=100 2>/dev/null || echo full; rm /memory/big; grep -o '/memory tmpfs rw,nosuid' /proc/mounts"
        )
    ).ok()
    assert done.lines == ["part", "refused", "1777", "full", "/memory tmpfs rw,nosuid"]
    assert (shared / "deep/file").read_text() == "changed\n"
    assert not Path("/etc/made").exists() and (shared / "etc/made/here/file").read_text() == "made\n"
    second = join(make_bundle(), holder).mount("/m", "tmpfs", "tmpfs", "size=1m", "ro", "x-runv.shared=one")
    second.mount("/a", "tmpfs", "tmpfs", "x-runv.shared=one", "x-runv.subpath=a").mount("/other", "tmpfs", "tmpfs", "x-runv.shared=two", "mode=700")
    again = runv.run_bundle(second.script("cat /m/file; touch /m/x || echo refused; touch /a/y; ls /m/a; ls /other; stat -c %a /other; df -k /m | tail -1 | awk '{ print $2 }'"))
    assert again.ok().lines == ["kept", "refused", "y", "700", "64"]
    holder.delete()
