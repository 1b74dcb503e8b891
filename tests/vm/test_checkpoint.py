"""checkpoint and restore."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Bundle, Created, Runtime, console_socket, new_id, on_terminal, refusal, wait_until
from .network.nets import Net, in_namespace, ip
from .test_disks import command

pytestmark = pytest.mark.vm

MakeBundle = Callable[[], Bundle]
# Counts in its memory, and writes that to its disk; says so once for each line that it reads.
COUNTS = "i=0; while :; do i=$((i+1)); echo $i >/count; echo $i; sleep 0.05; [ ! -e /end ] || exit 7; done"


def on_disk(bundle: Bundle, mib: int = 16) -> Bundle:
    """Its root file system on an ext4 of its own."""
    image = bundle.path / "root.img"
    with image.open("wb") as file:
        file.truncate(mib << 20)
    command("mkfs.ext4", "-q", "-d", bundle.rootfs, image)
    bundle.config["root"]["path"] = "root.img"
    return bundle.save()


def copied(bundle: Bundle) -> Bundle:
    """Its root file system is a copy of the folder."""
    bundle.config.setdefault("annotations", {})["run.runv.rootfs.copy"] = "true"
    return bundle.save()


def elsewhere(bundle: Bundle, make_bundle: MakeBundle) -> Bundle:
    """The same configuration in another folder, without its disk."""
    other = make_bundle()
    other.config = json.loads(json.dumps(bundle.config))
    return other.save()


def restored(runv: Runtime, folder: Path, bundle: Bundle, container: str, *flags: str) -> Created:
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    pid_file = bundle.path / "pid"
    arguments = ["restore", "--detach", "--image-path", str(folder), "--bundle", str(bundle.path), "--pid-file", str(pid_file), *flags, container]
    process = runv.popen(*arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    code = process.wait(60)
    err.seek(0)
    assert code == 0, err.read().decode()
    return Created(runv, container, int(pid_file.read_text()), out, err)


def last(container: Created) -> int:
    lines = container.output().split()
    return int(lines[-1]) if lines else 0


@pytest.mark.soak
def test_it_goes_on_beside_its_likeness(runv: Runtime, bundle: Bundle, folder: Path, make_bundle: MakeBundle) -> None:
    """The source goes on, and what was saved of it can be restored, and more than once."""
    source = runv.start(on_disk(bundle).script(COUNTS))
    wait_until(lambda: last(source) > 2, "the first counts")
    sleeping = runv.popen("exec", source.id, "sleep", "1000", stdin=subprocess.DEVNULL)
    wait_until(lambda: b"1000" in runv.run("ps", source.id).stdout, "the further process")
    before = last(source)
    runv.run("checkpoint", "--leave-running", "--image-path", str(folder / "there"), source.id).ok()
    saved = last(source) + 1
    assert source.status() == "running"
    wait_until(lambda: last(source) > saved + 2, "more counts of the source")
    assert [int(line) for line in source.output().split()] == list(range(1, last(source) + 1))
    assert sleeping.poll() is None
    message = refusal(runv.run("restore", "--image-path", str(folder / "there"), "--bundle", str(bundle.path), new_id()))
    assert message.startswith(f"cannot restore disk {bundle.path}/root.img: another machine uses it")
    again = [restored(runv, folder / "there", elsewhere(bundle, make_bundle), new_id()) for _ in range(2)]
    for one in again:
        wait_until(lambda one=one: last(one) > saved + 2, "more counts of a likeness")  # type: ignore[misc]
        assert b"1000" not in runv.run("ps", one.id).stdout
        assert sorted(path.name for path in Path(runv.state(one.id)["bundle"]).iterdir()) == ["config.json", "pid", "root.img", "rootfs"]
    (first,) = {int(one.output().split()[0]) for one in again}
    assert before < first <= saved
    numbers = {one.exec("sh", "-c", "head -c 8 /dev/urandom | od -An -tx8").ok().out for one in again}
    assert len(numbers) == 2
    runv.run("checkpoint", "--image-path", str(folder / "again"), again[0].id).ok()
    third = restored(runv, folder / "again", elsewhere(bundle, make_bundle), new_id())
    wait_until(lambda: last(third) > last(again[0]) + 2, "more counts of what was restored twice")
    assert third.output().split()[0] == b"%d" % (last(again[0]) + 1)
    for one in (third, again[1], source):
        one.delete()
    assert sleeping.wait(60) != 0


def test_containers_of_a_pod(runv: Runtime, bundle: Bundle, folder: Path, make_bundle: MakeBundle) -> None:
    kind, sandbox = "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"
    first = runv.start(on_disk(bundle).script(COUNTS))
    joining = copied(make_bundle()).script(COUNTS)
    joining.config["annotations"] |= {kind: "container", sandbox: first.id}
    second = runv.start(joining.save())
    wait_until(lambda: last(first) > 2 and last(second) > 2, "the first counts")
    runv.run("checkpoint", "--image-path", str(folder / "there"), first.id).ok()
    assert (first.wait(), second.wait(), second.status()) == (-9, -9, "stopped")
    assert "does not exist" in refusal(runv.run("state", first.id))
    second.delete()
    (folder / "there").rename(folder / "moved")
    others = elsewhere(bundle, make_bundle), elsewhere(joining, make_bundle)
    flags = ["--image-path", str(folder / "moved"), "--bundle", str(others[0].path)]
    assert "there is no container x in it" in refusal(runv.run("restore", *flags, "x"))
    again = restored(runv, folder / "moved", others[0], new_id(), "--from", first.id, "--member", f"{second.id}={others[1].path}")
    assert f"container {second.id} of the machine, which was restored, is still" in refusal(runv.run("checkpoint", "--image-path", str(folder / "x"), again.id))
    others[1].config["annotations"][sandbox] = again.id
    other = restored(runv, folder / "moved", others[1].save(), second.id)
    for one, before in ((again, last(first)), (other, last(second))):
        wait_until(lambda one=one, before=before: last(one) > before + 2, "more counts")  # type: ignore[misc]
        assert one.output().split()[0] == b"%d" % (before + 1)
        assert int(one.exec("cat", "/count").ok().out) > before
    assert "does not wait there" in refusal(runv.run("restore", "--detach", "--image-path", str(folder / "moved"), "--bundle", str(others[1].path), "--from", second.id, "z"))
    other.exec("touch", "/end")  # the container's end may be faster, and take it along
    assert other.wait() == 7
    other.delete()
    assert sorted(path.name for path in others[1].path.iterdir()) == ["config.json", "pid", "rootfs"]
    assert not (joining.rootfs / "count").exists() and not (others[1].rootfs / "count").exists()
    assert again.status() == "running"
    again.delete()


_TALKS = """
import socket, time
listener = socket.create_server(("10.77.0.1", 9000))
print("ready", flush=True)
link, _ = listener.accept()
number = 0
while True:
    number += 1
    link.sendall(b"%d\\n" % number)
    time.sleep(0.05)
"""


@pytest.mark.soak
def test_the_network(runv: Runtime, bundle: Bundle, folder: Path, make_bundle: MakeBundle, net: Net) -> None:
    """A connection goes on where the addresses are the same; elsewhere the card has those of its new link."""
    # While there is no machine the namespace's own kernel would reset the connection, which it does not know.
    net.in_pod("nft", "add table inet quiet; add chain inet quiet input { type filter hook input priority 0; policy drop; }")
    with net.at_peer(_TALKS):
        source = runv.start(in_namespace(on_disk(bundle).script("nc 10.77.0.1 9000; sleep 1000"), net.path))
        wait_until(lambda: last(source) > 2, "what the peer says")
        runv.run("checkpoint", "--image-path", str(folder / "there"), source.id).ok()
        source.wait()
        assert net.nothing_of_ours()
        again = restored(runv, folder / "there", elsewhere(bundle, make_bundle), new_id())
        wait_until(lambda: last(again) > last(source) + 2, "what the peer says later")
        assert again.output().split()[0] == b"%d" % (last(source) + 1)
        again.delete()
    ip("-n", net.pod, "address", "delete", "10.77.0.2/24", "dev", "eth0")
    ip("-n", net.pod, "address", "add", "10.77.0.3/24", "dev", "eth0")
    again = restored(runv, folder / "there", elsewhere(bundle, make_bundle), new_id())
    shown = again.exec("ip", "address", "show", "eth0").ok().out
    assert "inet 10.77.0.3/24" in shown and "10.77.0.2/" not in shown and "inet6 fd00:77::2/64" in shown
    again.exec("ping", "-c", "1", "10.77.0.1").ok()
    again.delete()
    alone = elsewhere(bundle, make_bundle)
    alone.linux["namespaces"] = [entry if entry["type"] != "network" else {"type": "network"} for entry in alone.linux["namespaces"]]
    again = restored(runv, folder / "there", alone.save(), new_id())
    again.delete()


@pytest.mark.soak
def test_a_terminal(runv: Runtime, bundle: Bundle, folder: Path, make_bundle: MakeBundle) -> None:
    on_disk(bundle).script("stty -echo; while read line; do i=$((i+1)); echo $line $i; done", terminal=True)
    with console_socket(folder) as (socket, receive):
        source = runv.start(bundle, "--console-socket", str(socket))
        terminal = receive()
        terminal.write(b"first\n")
        terminal.expect(b"first 1")
        runv.run("checkpoint", "--image-path", str(folder / "there"), source.id).ok()
        source.wait()
    plain = elsewhere(bundle, make_bundle).args("sh", terminal=False)
    assert "must be as it was" in refusal(runv.run("restore", "--image-path", str(folder / "there"), "--bundle", str(plain.path), "c"))
    other = elsewhere(bundle, make_bundle)
    with on_terminal(runv, "restore", "--image-path", str(folder / "there"), "--bundle", str(other.path), new_id()) as (process, terminal):
        wait_until(lambda: len(list(runv.root.glob("*/ready"))) == 1, "the restore")
        terminal.write(b"second\n")
        terminal.expect(b"second 2")
        terminal.write(b"\x04")
        assert process.wait(60) == 0
    assert not list(runv.root.glob("[!@]*"))


@pytest.mark.soak
def test_a_failure_on_the_way(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    """No room for the state; or somebody kills us. The source goes on, and there is no folder."""
    source = runv.start(on_disk(bundle).script(COUNTS))
    wait_until(lambda: last(source) > 2, "the first counts")
    small = folder / "small"
    small.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small)
    try:
        assert refusal(runv.run("checkpoint", "--image-path", str(small / "there"), source.id)).startswith("cannot ")
        assert list(small.iterdir()) == []
    finally:
        command("umount", small)
    before = last(source)
    wait_until(lambda: last(source) > before + 2, "more counts")
    killed = runv.popen("checkpoint", "--image-path", str(folder / "there"), source.id)
    wait_until(lambda: bool(list(runv.root.glob("@sandboxes/*/paused"))), "the machine to stand still")
    killed.kill()
    killed.wait()
    assert not (folder / "there").exists()
    assert source.status() == "paused"
    runv.run("resume", "--vm", source.id).ok()
    before = last(source)
    wait_until(lambda: last(source) > before + 2, "more counts")
    runv.run("checkpoint", "--image-path", str(folder / "there"), source.id).ok()


@pytest.fixture
def saved(runv: Runtime, bundle: Bundle, folder: Path) -> Path:
    container = runv.start(on_disk(bundle).script(COUNTS))
    runv.run("checkpoint", "--image-path", str(folder / "there"), container.id).ok()
    return folder / "there"


def test_what_cannot_be_restored(runv: Runtime, bundle: Bundle, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--image-path", str(saved), "--bundle", str(bundle.path), "c"]
    about = json.loads((saved / "checkpoint.json").read_text())
    root = bundle.path / "root.img"
    root.write_bytes(b"what was there")

    def refused() -> str:
        message = refusal(runv.run("restore", *flags))
        assert root.read_bytes() == b"what was there" and not list(runv.root.glob("c"))
        return message.removeprefix(f"cannot restore from {saved}: ")

    def changed(**members: object) -> str:
        (saved / "checkpoint.json").write_text(json.dumps({**about, **members}))
        return refused()

    assert changed(format=0) == f"it is of format 0, made by runv {about['version']}; this is runv {about['version']}"
    assert changed(vcpus="many").startswith("checkpoint.json is damaged: Expected `int`, got `str`")
    assert changed(machine={**about["machine"], "accelerator": "kvm"}).startswith("it was made with accelerator kvm, and here it is tcg")
    assert changed(processor="other") == "it was made on another kind of processor"
    assert changed(programs={**about["programs"], "kernel": [1, 2]}).startswith("it was made with another kernel than /")
    assert changed(memory_mib=about["memory_mib"] * 2).startswith("the machine has ended; QEMU said: ")
    assert changed(disks=[{**about["disks"][0], "serial": "../../x"}]).startswith("checkpoint.json is damaged: ")
    (saved / "checkpoint.json").write_text(json.dumps(about))
    for name in ("state", f"disks/{about['disks'][0]['serial']}"):
        file = saved / name
        before = file.read_bytes()
        for damaged in (before[:-1], bytes([before[0] ^ 1]) + before[1:]):
            file.write_bytes(damaged)
            assert refused() == f"{name} is damaged: it has not the size or the checksum that was written"
        file.write_bytes(before)
    saved.chmod(0o777)
    assert refused() == "it must be a folder of one's own that nobody else can write to"
    saved.chmod(0o700)
    assert sorted(path.name for path in bundle.path.iterdir()) == ["config.json", "root.img", "rootfs"]
    runv.run("restore", "--detach", *flags).ok()
    runv.run("delete", "--force", "c").ok()


@pytest.mark.soak
def test_what_cannot_be_saved(runv: Runtime, bundle: Bundle, folder: Path, make_bundle: MakeBundle) -> None:
    there = folder / "there"
    flags = ["checkpoint", "--image-path", str(there)]
    shared = runv.start(bundle.args("sleep", "1000"))
    assert refusal(runv.run(*flags, shared.id)).startswith(f"cannot checkpoint: the root of container {shared.id} is a folder of the host, {bundle.rootfs}")
    assert refusal(runv.run(*flags, "--pre-dump", shared.id)) == "cannot checkpoint with --pre-dump: a machine is saved at once, and not bit by bit"
    assert shared.status() == "running" and shared.exec("true").code == 0
    shared.delete()
    binding = on_disk(make_bundle()).mount("/data", str(folder), "bind", "rbind").args("sleep", "1000")
    container = runv.create(binding)
    assert refusal(runv.run(*flags, container.id)) == "Container cannot be checkpointed in created state"
    container.start()
    assert refusal(runv.run(*flags, container.id)).startswith(f"cannot checkpoint: {folder} of the host is mounted at /data in container {container.id}")
    container.delete()
    assert not there.exists()
    there.mkdir()
    (there / "mine").touch()
    container = runv.start(on_disk(make_bundle()).script(COUNTS))
    assert "is there already, and not an empty folder" in refusal(runv.run(*flags, container.id))
    (there / "mine").unlink()
    wait_until(lambda: last(container) > 2, "the first counts")
    runv.run(*flags, container.id).ok()
    assert sorted(path.name for path in there.iterdir()) == ["checkpoint.json", "disks", "state"]
