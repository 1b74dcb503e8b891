"""Volumes, bind mounts, tmpfs and the container's own layer, from inside and from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.harness import wait_until

from .docker import Docker
from .harness import IMAGE

pytestmark = pytest.mark.engines


@pytest.mark.smoke
def test_a_folder_of_the_host_both_ways(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    name = docker.sleeping("-v", f"{tmp_path}:/data")
    script = (
        "cat /data/in; echo from the guest > /data/out; mkdir /data/sub; chown 1000:1000 /data/sub; ln -s in /data/link"
    )
    assert docker.exec(name, "sh", "-c", script).ok().out == "from the host\n"
    assert (tmp_path / "out").read_text() == "from the guest\n"
    assert (tmp_path / "sub").stat().st_uid == 1000
    assert (tmp_path / "link").readlink() == Path("in")
    # Changes while it runs are seen at once, by both.
    (tmp_path / "in").write_text("changed\n")
    (tmp_path / "new").write_text("new\n")
    assert docker.exec(name, "cat", "/data/in", "/data/new").ok().out == "changed\nnew\n"
    docker.exec(name, "rm", "/data/new").ok()
    assert not (tmp_path / "new").exists()


def test_read_only_and_single_files(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("kept\n")
    (tmp_path / "file").write_text("one\n")
    done = docker.run(
        "-v", f"{tmp_path}/folder:/ro:ro",
        "-v", f"{tmp_path}/file:/etc/one",
        "--mount", f"type=bind,source={tmp_path}/file,target=/etc/two,readonly",
        IMAGE, "sh", "-c", "cat /ro/file /etc/one; echo changed > /etc/one; cat /etc/two; touch /ro/x; touch /etc/two",
    )  # fmt: skip
    assert done.code != 0
    assert done.lines == ["kept", "one", "changed"]
    assert done.err.count("Read-only file system") == 2
    assert (tmp_path / "file").read_text() == "changed\n"


def test_named_volumes(docker: Docker) -> None:
    docker("volume", "create", "things")
    docker.run("-v", "things:/things", IMAGE, "sh", "-c", "echo kept > /things/file").ok()
    assert docker.run("-v", "things:/other:ro", IMAGE, "cat", "/other/file").ok().out == "kept\n"
    # A fresh volume begins with what the image has there, owners included.
    first = docker.sleeping("-v", "alices:/home/alice", "-u", "alice")
    docker.exec(first, "touch", "/home/alice/mine").ok()
    shared = docker.run("--volumes-from", first, IMAGE, "ls", "-ln", "/home/alice/").ok()
    assert " 1000 " in shared.out and "mine" in shared.out


def test_root_read_only(docker: Docker) -> None:
    script = (
        "touch /x; touch /run/here && echo tmpfs; df -k /run | awk 'END { print $1, $2 }'; grep ' /run ' /proc/mounts"
    )
    done = docker.run("--read-only", "--tmpfs", "/run:size=1m,mode=700,noexec", IMAGE, "sh", "-c", script).ok()
    assert "touch: /x: Read-only file system" in done.err
    assert done.lines[:2] == ["tmpfs", "tmpfs 1024"]
    assert "noexec" in done.lines[2] and "mode=700" in done.lines[2]
    plain = docker.run("--mount", "type=tmpfs,destination=/t,tmpfs-size=2m", IMAGE, "sh", "-c", "df -k /t | tail -1")
    assert plain.ok().out.split()[:2] == ["tmpfs", "2048"]


def test_copying(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("in\n")
    (tmp_path / "tree/sub/file").chmod(0o640)
    name = docker.sleeping()
    docker("cp", f"{tmp_path}/tree", f"{name}:/root/")
    assert (
        docker.exec(name, "sh", "-c", "cat /root/tree/sub/file; stat -c %a /root/tree/sub/file").ok().out == "in\n640\n"
    )
    docker.exec(name, "sh", "-c", "mkdir /made; echo out > /made/file; ln -s file /made/link").ok()
    docker("cp", f"{name}:/made", str(tmp_path))
    assert (tmp_path / "made/link").read_text() == "out\n"
    assert docker("diff", name).out.splitlines() == [
        "C /root", "A /root/tree", "A /root/tree/sub", "A /root/tree/sub/file", "A /made", "A /made/file", "A /made/link",
    ] or set(docker("diff", name).out.splitlines()) == {
        "C /root", "A /root/tree", "A /root/tree/sub", "A /root/tree/sub/file", "A /made", "A /made/file", "A /made/link",
    }  # fmt: skip
    docker("stop", name)
    docker("cp", str(tmp_path / "tree/sub/file"), f"{name}:/made/late")
    docker("cp", f"{name}:/made/late", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "in\n"
    docker("start", name)
    assert docker.exec(name, "cat", "/made/late", "/made/file").ok().out == "in\nout\n"


def test_commit_and_export(docker: Docker) -> None:
    name = docker.detached(IMAGE, "sh", "-c", "echo mine > /file; chown alice /file; rm /etc/not-executable")
    docker("wait", name)
    docker("commit", "--change", 'CMD ["cat", "/file"]', name, "localhost/committed")
    try:
        assert docker.run("localhost/committed").ok().out == "mine\n"
        assert docker.run("localhost/committed", "stat", "-c", "%U", "/file").ok().out == "alice\n"
        assert docker.run("localhost/committed", "ls", "/etc/not-executable").code == 1
    finally:
        docker("rm", name)
        docker("image", "rm", "localhost/committed")


_DOCKERFILE = f"""
FROM {IMAGE}
ARG WORD=none
RUN echo $WORD > /made && echo bob:x:1234:1234::/:/bin/sh >> /etc/passwd
COPY --chown=1234 file /copied
USER bob
WORKDIR /work
RUN ["sh", "-c", "id -u > /tmp/id; uname -r > /tmp/kernel"]
CMD cat /made /copied /tmp/id /tmp/kernel; pwd; stat -c %U /copied
"""


@pytest.mark.smoke
def test_build(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    (tmp_path / "file").write_text("copied\n")
    built = docker.try_(
        "build", "--build-arg", "WORD=given", "-t", "localhost/built", str(tmp_path), deadline_s=300
    ).ok()
    try:
        assert "Successfully tagged" in built.out
        lines = docker.run("localhost/built").ok().lines
        assert lines[:3] == ["given", "copied", "1234"]
        assert lines[3].endswith("-hyper")  # the RUN lines had a kernel of their own, too
        assert lines[4:] == ["/work", "bob"]
    finally:
        docker("image", "rm", "localhost/built")


def test_a_failing_build_says_so(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo before; exit 9\n")
    done = docker.try_("build", "--force-rm", str(tmp_path))
    assert done.code != 0 and "returned a non-zero code: 9" in done.err
    assert "before" in done.out
    wait_until(lambda: not docker("ps", "-aq").out, "the build's containers to be gone")
