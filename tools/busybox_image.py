#!/usr/bin/python3 -IS
# SPDX-License-Identifier: Apache-2.0
"""Make the image ``busybox:latest`` of Debian's busybox-static: an archive that hyperctl, Docker, podman and skopeo load.

    busybox_image.py TARGET.tar

The same busybox gives the same image.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
NAME = "busybox:latest"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
FOLDERS = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/spool": 0o755,
    "var/spool/mail": 0o755,
    "var/www": 0o755,
}
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"
    "www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\ndisk:x:6:\nwheel:x:10:root\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/profile": "export PS1='\\u@\\h:\\w\\$ '\n",
}


def layer(mtime: int) -> bytes:
    """The one layer. The programs are hard links, as in the image that Docker Hub has."""
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:

        def add(name: str, kind: bytes, mode: int, data: bytes = b"", target: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime, info.size, info.linkname = kind, mode, mtime, len(data), target
            archive.addfile(info, io.BytesIO(data))

        for name, mode in FOLDERS.items():
            add(name, tarfile.DIRTYPE, mode)
        add("bin/busybox", tarfile.REGTYPE, 0o755, BUSYBOX.read_bytes())
        for program in sorted(set(listed) - {"busybox"}):
            add(f"bin/{program}", tarfile.LNKTYPE, 0o755, target="bin/busybox")
        for name, text in FILES.items():
            add(name, tarfile.REGTYPE, 0o644, text.encode())
    return buffer.getvalue()


def documents(data: bytes, mtime: int) -> dict[str, bytes]:
    """The files of the archive: a layout of OCI's that is an archive of Docker's as well."""

    def described(kind: str, blob: bytes) -> dict[str, object]:
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest(blob)}", "size": len(blob)}

    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(mtime))
    machine = os.uname().machine
    config = encode(
        {
            "created": created,
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(data)}"]},
            "history": [{"created": created, "created_by": "busybox_image.py", "comment": "Debian's busybox-static"}],
        }
    )
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": described("config.v1+json", config),
            "layers": [described("layer.v1.tar", data)],
        }
    )
    names = {"io.containerd.image.name": f"docker.io/library/{NAME}", "org.opencontainers.image.ref.name": "latest"}
    index = {"schemaVersion": 2, "manifests": [described("manifest.v1+json", manifest) | {"annotations": names}]}
    listed = [{"Config": blob_name(config), "RepoTags": [NAME], "Layers": [blob_name(data)]}]
    return {
        "oci-layout": encode({"imageLayoutVersion": "1.0.0"}),
        "index.json": encode(index),
        "manifest.json": encode(listed),
        **{blob_name(blob): blob for blob in (config, manifest, data)},
    }


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob_name(data: bytes) -> str:
    return f"blobs/sha256/{digest(data)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("target", type=Path)
    target: Path = parser.parse_args().target
    if not BUSYBOX.exists():
        print(f"busybox_image: there is no {BUSYBOX}; it is in the package busybox-static", file=sys.stderr)
        return 1
    mtime = int(BUSYBOX.stat().st_mtime)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in documents(layer(mtime), mtime).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    temporary.rename(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
