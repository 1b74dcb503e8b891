"""All six hooks, in their order and places (spec: runtime.md, "Lifecycle")."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .harness import Bundle, Json, Runtime, new_id

pytestmark = pytest.mark.vm

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def hook(script: str, **members: Any) -> Json:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **members}


@pytest.fixture
def told(bundle: Bundle) -> Path:
    """Where hooks write: a file in the rootfs, which host and guest have in common."""
    return bundle.rootfs / "told"


def states(told: Path) -> list[Json]:
    return [json.loads(line) for line in told.read_text().splitlines()]


def test_order_and_state(runv: Runtime, bundle: Bundle, told: Path) -> None:
    bundle.config["annotations"] = {"a": "b"}
    bundle.config["hooks"] = {
        kind: [hook(f"(cat; echo) >> {told if kind != 'startContainer' else '/told'}")] for kind in KINDS
    }
    bundle.script("true")
    container = runv.create(bundle)
    assert [state["status"] for state in states(told)] == ["created", "creating", "creating"]
    container.start()
    assert container.wait() == 0
    container.delete()
    found = states(told)
    assert [state["status"] for state in found] == ["created", "creating", "creating", "created", "running", "stopped"]
    pid = container.pid
    assert [state["pid"] for state in found] == [pid, pid, pid, 1, pid, 0]
    for state in found:
        assert (state["id"], state["bundle"], state["annotations"]) == (container.id, str(bundle.path), {"a": "b"})


def test_namespaces(runv: Runtime, bundle: Bundle, told: Path) -> None:
    """createContainer: the container's network, and mounts that stay its own. startContainer: the guest."""
    look = "readlink /proc/self/ns/net /proc/self/ns/mnt"
    bundle.config["hooks"] = {
        "createRuntime": [hook(f"{look} > {told}")],
        "createContainer": [hook(f"mount -t tmpfs none {bundle.rootfs}/tmp && {look} >> {told}; readlink /proc/$(sed 's/.*\"pid\": //; s/,.*//')/ns/net >> {told}")],
        "startContainer": [hook("test ! -e /proc/1/root/run/runv; uname -r >> /told")],
    }
    assert runv.run_bundle(bundle.script("uname -r")).ok().out.strip() == told.read_text().splitlines()[-1]
    net, mnt, inner_net, inner_mnt, standin_net, _ = told.read_text().splitlines()
    assert (net, mnt) == (os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt"))
    assert inner_net == standin_net != net
    assert inner_mnt != mnt
    assert not os.path.ismount(bundle.rootfs / "tmp")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_failure_in_create_leaves_nothing(runv: Runtime, bundle: Bundle, kind: str) -> None:
    bundle.config["hooks"] = {kind: [hook("echo why; exit 3")]}
    name = new_id()
    done = runv.run("create", "--bundle", str(bundle.save().path), name)
    assert done.code == 1
    assert f"error running {kind} hook #0: exit status 3, output: why" in done.err
    assert runv.run("state", name).code == 1


def test_a_failing_start_container_hook(runv: Runtime, bundle: Bundle, told: Path) -> None:
    bundle.config["hooks"] = {"startContainer": [hook("echo why; exit 3")]}
    container = runv.create(bundle.script(f"touch {told.name}"))
    done = runv.run("start", container.id)
    assert done.code == 1
    assert "error running startContainer hook #0: exit status 3, output: why" in done.err
    container.wait()
    assert container.status() == "stopped"
    container.delete()
    assert not told.exists()


def test_a_failing_poststart_hook(runv: Runtime, bundle: Bundle, told: Path) -> None:
    """Fatal since 1.3; in older configurations the hooks after it run, and so does the container."""
    bundle.config["hooks"] = {"poststart": [hook("exit 3"), hook(f"echo second >> {told}")]}
    bundle.config["ociVersion"] = "1.2.1"
    container = runv.create(bundle.args("sleep", "1000"))
    done = runv.run("start", container.id).ok()
    assert "error running poststart hook #0: exit status 3" in done.err
    assert told.read_text() == "second\n"
    assert container.status() == "running"
    container.delete()
    container.wait()

    bundle.config["ociVersion"] = "1.3.0"
    container = runv.create(bundle.save())
    done = runv.run("start", container.id)
    assert done.code == 1
    assert "error running poststart hook #0: exit status 3" in done.err
    assert container.wait() == -9
    assert container.status() == "stopped"
    container.delete()
    assert told.read_text() == "second\n"


def test_failing_poststop_hooks_are_told(runv: Runtime, bundle: Bundle, told: Path) -> None:
    bundle.config["hooks"] = {"poststop": [hook("exit 3"), hook("sleep 1000", timeout=1), hook(f"echo last > {told}")]}
    done = runv.run_bundle(bundle.args("true")).ok()
    assert "poststop hook #0: exit status 3" in done.err
    assert "poststop hook #1: /bin/sh did not end within 1 s" in done.err
    assert told.read_text() == "last\n"


def test_hooks_of_a_container_that_joins(runv: Runtime, bundle: Bundle, make_bundle: Any) -> None:
    first = runv.start(bundle.args("sleep", "1000"))
    second = make_bundle()
    told = second.rootfs / "told"
    second.config["annotations"] = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": first.id,
    }
    second.config["hooks"] = {
        kind: [hook(f"echo {kind} >> {told if kind != 'startContainer' else '/told'}")] for kind in KINDS
    }
    assert runv.run_bundle(second.args("true")).ok()
    assert told.read_text().split() == list(KINDS)
    first.delete()
    first.wait()
