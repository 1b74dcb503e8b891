"""An image and a place for the tests, and runv's own judgement of what comes out."""

from __future__ import annotations

import json
from typing import Any

from hyperd import bundle, spec
from hyperd.bundle import Bundle, Folder, ImageView, Place, Source
from runv.spec import ignored
from runv.spec.config import Config, parse_config
from runv.spec.infra import settle_infra

Json = dict[str, Any]

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:Web:/var/www:/bin/sh\nmail:x:8:8::/var/mail:/bin/false\n0:x:77:78::/odd:\n# c:x:1:1::/:\n"
GROUP = b"root:x:0:root\nadm:x:4:web,root\nwww:x:34:web\ndisk:x:6:\nstaff:x:50:web\n\xff:x:a\n"
IMAGE = ImageView(
    entrypoint=("/entry",),
    cmd=("one", "two"),
    env=("PATH=/bin", "LANG=C", "broken"),
    working_dir="srv",
    passwd=PASSWD,
    group=GROUP,
    layers=("/images/base.erofs", "/images/app.erofs"),
)
PLACE = Place(
    pod_id="0123456789abcdef",
    container_id="fedcba9876543210",
    infra_pid=4711,
    files="/run/hyperd/pods/p/c/files",
    addresses=("10.1.2.3", "fd00::3"),
    host_addresses=("192.0.2.1",),
    node_name="node",
    dns_servers=("10.1.2.1",),
    dns_searches=("pods",),
    dns_options=("ndots:1",),
)


def nothing(path: str) -> bytes:
    raise AssertionError(f"{path} is read")


def pod(*containers: spec.Container, **members: Any) -> spec.Pod:
    return spec.Pod(name="p", containers=containers or (spec.Container(name="c", image="i"),), **members)


def checked(config: Json) -> Config:
    """As runv reads it; nothing of it may be left undone there."""
    document = settle_infra(parse_config(json.dumps(config).encode(), "config.json"))
    assert ignored.in_config(document.config, document.raw) == []
    return document.config


def made(whole: spec.Pod, sources: dict[str, Source] | None = None, *, image: ImageView = IMAGE, place: Place = PLACE, **more: Any) -> Bundle:
    """The bundle of the first container, judged by runv."""
    found = {volume.name: Folder(f"/volumes/{volume.name}") for volume in whole.volumes} | (sources or {})
    result = bundle.container(whole, whole.containers[0], image, place, found, **{"read": nothing, **more})
    checked(result.config)
    return result


def process(image: ImageView = IMAGE, place: Place = PLACE, **members: Any) -> Json:
    """The process of a container with ``members``."""
    found: Json = made(pod(spec.Container(name="c", image="i", **members)), image=image, place=place).config["process"]
    return found


def environment(found: Json) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in found["env"])
