"""Id-mapped mounts: the host maps the ids of what it shares, and container and host see each other's files under their own ids."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .harness import Bundle, Runtime, refusal
from .test_disks import command, ext4

pytestmark = pytest.mark.vm


def mapping(disk: int, shown: int, size: int) -> dict[str, Any]:
    ranges = [{"containerID": disk, "hostID": shown, "size": size}]
    return {"uidMappings": ranges, "gidMappings": ranges}


@pytest.mark.parametrize("kind", ["9p", "virtiofs"])
def test_ids(runv: Runtime, bundle: Bundle, folder: Path, kind: str) -> None:
    """With a user namespace the container's root owns what is the host's root's; and, in another mount, what is that of user 1000."""
    place, others = folder / "volume", folder / "others"
    for path in (place, others):
        path.mkdir()
        (path / "file").write_text("x\n")
    for name in ("vol", "others", "plain"):
        (bundle.rootfs / name).mkdir()  # which the container's root could not: the root is another's
    for path in (others, others / "file"):
        os.chown(path, 1000, 1000)
    bundle.linux["namespaces"].append({"type": "user"})
    bundle.linux.update(mapping(0, 100000, 65536))
    bundle.config["mounts"] += [
        {"destination": "/vol", "source": str(place), "type": "bind", "options": ["rbind", "ridmap"]},
        {"destination": "/others", "source": str(others), "type": "bind", "options": ["bind", "idmap"], **mapping(1000, 100000, 1)},
        {"destination": "/plain", "source": str(place), "type": "bind", "options": ["bind"]},
    ]
    bundle.process["capabilities"] = {name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted")}
    script = (
        "stat -c %u:%g /vol /vol/file /others/file /plain/file; echo new >/vol/new && mkdir /vol/dir && chown 5:7 /vol/dir && echo new >/others/new; "
        "stat -c %u:%g /vol/new /vol/dir /others/new; echo x 2>/dev/null >>/plain/file || echo not ours"
    )
    done = replace(runv, env={"RUNV_SHARE": kind}).run_bundle(bundle.script(script)).ok()
    assert done.lines == ["0:0"] * 3 + ["65534:65534", "0:0", "5:7", "0:0", "not ours"]
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in (place / "new", place / "dir")}
    assert owners == {"new": (0, 0), "dir": (5, 7)}
    assert ((others / "new").stat().st_uid, (others / "new").stat().st_gid) == (1000, 1000)


def test_ids_of_a_disk(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    """It is the guest's kernel that maps them: what is user 1000's on the disk is the container's root's, whole and in part."""
    (folder / "content/part").mkdir(parents=True)
    (folder / "content/file").touch()
    for path in ("content/file", "content/part"):
        os.chown(folder / path, 1000, 1000)
    image = ext4(folder / "volume.img", folder / "content")
    for destination, words in (("/vol", ["idmap"]), ("/part", ["idmap", "x-runv.subpath=part"])):
        entry = {"destination": destination, "source": str(image), "type": "ext4", "options": words, **mapping(1000, 0, 1)}
        bundle.config["mounts"].append(entry)
    script = "stat -c %u:%g /vol/file /vol/lost+found /part; echo new >/vol/part/one; echo new >/part/two; stat -c %u:%g /vol/part/*"
    done = runv.run_bundle(bundle.script(script)).ok()
    assert done.lines == ["0:0", "65534:65534", "0:0", "0:0", "0:0"]
    for name in ("/part/one", "/part/two"):
        assert "User:  1000   Group:  1000" in command("debugfs", "-R", f"stat {name}", image)


def test_what_has_no_ids_to_map(runv: Runtime, bundle: Bundle) -> None:
    """procfs has no id-mapped mounts on any host, and nothing is made before that is known."""
    bundle.config["mounts"].append(
        {"destination": "/x", "source": "/proc", "type": "bind", "options": ["bind", "idmap"], **mapping(0, 1000, 1)}
    )
    said = refusal(runv.run_bundle(bundle.args("true")))
    assert "$.mounts[7]: cannot map the ids of /proc: invalid argument" in said
