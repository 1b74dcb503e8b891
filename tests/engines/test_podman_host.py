"""What Podman brings into a container from the host: files, limits, networks, and builds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.harness import DEADLINE_S, wait_until

from .harness import ENGINE_ADDRESS, IMAGE, OUTSIDE_ADDRESS, Netns, server
from .podman import Podman

pytestmark = pytest.mark.engines

_WHO = "while :; do echo hello | nc -l -p 8000; done"
_ASK = "until nc -w 5 {} 8000; do sleep 0.1; done"


def test_folders_and_volumes(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    name = podman.sleeping("-v", f"{tmp_path}:/data", "-v", f"{tmp_path}:/ro:ro", "-v", "things:/things")
    script = (
        "cat /data/in /ro/in; echo out > /data/out; chown 1000:1000 /data/out; echo kept > /things/file; touch /ro/x"
    )
    done = podman.exec(name, "sh", "-c", script)
    assert done.lines == ["from the host"] * 2
    assert "Read-only file system" in done.err
    assert (tmp_path / "out").read_text() == "out\n" and (tmp_path / "out").stat().st_uid == 1000
    (tmp_path / "in").write_text("changed\n")
    assert podman.exec(name, "cat", "/data/in").ok().out == "changed\n"
    assert podman.run("-v", "things:/other:ro", IMAGE, "cat", "/other/file").ok().out == "kept\n"
    # A fresh volume begins with what the image has there, owners included.
    assert " 1000 " in podman.run("-v", "alices:/home/alice", IMAGE, "ls", "-ldn", "/home/alice").ok().out


def test_read_only_and_tmpfs(podman: Podman) -> None:
    flags = ("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/run:size=1m,mode=700,noexec")
    script = (
        "touch /x; touch /run/here && echo tmpfs; df -k /run | awk 'END { print $1, $2 }'; grep ' /run ' /proc/mounts"
    )
    done = podman.run(*flags, IMAGE, "sh", "-c", script).ok()
    assert "Read-only file system" in done.err
    assert done.lines[:2] == ["tmpfs", "tmpfs 1024"]
    assert "noexec" in done.lines[2] and "mode=700" in done.lines[2]


def test_copying(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("in\n")
    name = podman.sleeping()
    podman("cp", f"{tmp_path}/tree", f"{name}:/root/")
    assert podman.exec(name, "cat", "/root/tree/file").ok().out == "in\n"
    podman.exec(name, "sh", "-c", "mkdir /made; echo out > /made/file").ok()
    podman("cp", f"{name}:/made", str(tmp_path))
    assert (tmp_path / "made/file").read_text() == "out\n"
    assert {"A /made", "A /made/file", "A /root/tree/file"} <= set(podman("diff", name).lines)


def test_capabilities_and_seccomp(podman: Podman) -> None:
    script = "grep -E '^(CapEff|Seccomp:)' /proc/self/status; chown alice /tmp && echo chown; ip link set lo down && echo down"
    plain = podman.run(IMAGE, "sh", "-c", script)
    assert "Seccomp:\t2" in plain.lines and "chown" in plain.lines and "down" not in plain.lines
    assert "chown" not in podman.run("--cap-drop", "CHOWN", IMAGE, "sh", "-c", script).lines
    assert "down" in podman.run("--cap-add", "NET_ADMIN", IMAGE, "sh", "-c", script).lines
    whole = podman.run("--privileged", IMAGE, "sh", "-c", script).ok()
    assert whole.lines == ["CapEff:\t000001ffffffffff", "Seccomp:\t0", "chown", "down"] or "down" in whole.lines


def test_limits(podman: Podman) -> None:
    flags = ("--ulimit", "nofile=1000:2000", "--shm-size", "32m", "--sysctl", "net.core.somaxconn=777", "--cpus", "1.5")
    script = """
        ulimit -Sn; ulimit -Hn; head -c 32m /dev/zero > /dev/shm/x && echo x > /dev/shm/y 2>/dev/null || echo full
        cat /proc/sys/net/core/somaxconn /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max
    """
    done = podman.run(*flags, "--pids-limit", "55", IMAGE, "sh", "-c", script).ok()
    assert done.lines == ["1000", "2000", "full", "777", "150000 100000", "55"]


def test_user_and_environment(podman: Podman) -> None:
    flags = ("-u", "alice", "-w", "/home/alice", "-e", "A=b", "--group-add", "27", "--hostname", "host.example")
    done = podman.run(*flags, IMAGE, "sh", "-c", "id -u; id -G; pwd; echo $A; hostname; touch x; stat -c %U x").ok()
    assert done.lines == ["1000", "1000 27", "/home/alice", "b", "host.example", "alice"]


def test_limit_of_memory(podman: Podman) -> None:
    name = podman.detached("-m", "32m", "--memory-swap", "32m", IMAGE, "sh", "-c", "tail /dev/zero")
    assert podman("wait", name).out == "137\n"
    assert (podman.folder / "oom").exists()  # from conmon; this Podman looks for it elsewhere, with any runtime


def test_network(podman: Podman, outside: Netns) -> None:
    with server(outside, lambda address, asked: f"{address} said {asked.decode()}".encode()) as port:
        done = podman.run(IMAGE, "sh", "-c", f"echo hello | nc {OUTSIDE_ADDRESS} {port}").ok()
    assert done.out == f"{ENGINE_ADDRESS} said hello\n"
    done = podman.run("--network", "none", IMAGE, "ls", "/sys/class/net").ok()
    assert done.out.split() == ["lo"]


def test_a_published_port(podman: Podman, outside: Netns) -> None:
    podman.detached("-p", "8081:8000", IMAGE, "sh", "-c", _WHO)

    def answers() -> bool:
        try:
            return outside.fetch(ENGINE_ADDRESS, 8081) == b"hello\n"
        except OSError:
            return False

    wait_until(answers, "the published port to answer", DEADLINE_S)


def test_a_network_of_ones_own(podman: Podman) -> None:
    podman("network", "create", "--subnet", "10.99.1.0/24", "--disable-dns", "mine")
    podman.detached("--network", "mine", "--ip", "10.99.1.7", IMAGE, "sh", "-c", _WHO)
    done = podman.run("--network", "mine", IMAGE, "timeout", "30", "sh", "-c", _ASK.format("10.99.1.7"))
    assert done.ok().out == "hello\n"


def test_names_in_a_network_of_ones_own(podman: Podman) -> None:
    podman("network", "create", "named")
    podman.detached("--network", "named", "--name", "server", "--network-alias", "alias", IMAGE, "sh", "-c", _WHO)
    client = podman.sleeping("--network", "named")
    for name in ("server", "alias"):
        assert podman.exec(client, "timeout", "30", "sh", "-c", _ASK.format(name)).ok().out == "hello\n"


def test_the_network_of_another_container(podman: Podman) -> None:
    first = podman.detached("--name", "first", IMAGE, "sh", "-c", _WHO)
    second = podman.sleeping("--network", "container:first")
    done = podman.exec(second, "timeout", "30", "sh", "-c", _ASK.format("127.0.0.1"))
    assert done.ok().out == "hello\n"
    podman("rm", "--force", "--time", "0", second)
    assert podman.exec(first, "echo", "still").ok().out == "still\n"


def test_the_hosts_network_is_refused(podman: Podman) -> None:
    done = podman.run("--network", "host", IMAGE, "true")
    assert done.code == 126 or done.code == 125
    assert "a virtual machine cannot use the host's own network" in done.err


_CONTAINERFILE = f"""
FROM {IMAGE}
ARG WORD=none
RUN echo $WORD > /made && echo bob:x:1234:1234::/:/bin/sh >> /etc/passwd
COPY --chown=1234 file /copied
USER bob
WORKDIR /work
RUN ["sh", "-c", "id -u > /tmp/id; uname -r > /tmp/kernel"]
CMD cat /made /copied /tmp/id /tmp/kernel; pwd; stat -c %U /copied
"""


def test_build(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(_CONTAINERFILE)
    (tmp_path / "file").write_text("copied\n")
    podman.build(tmp_path, "--build-arg", "WORD=given", "-t", "localhost/built").ok()
    try:
        lines = podman.run("localhost/built").ok().lines
        assert lines[:3] == ["given", "copied", "1234"]
        assert lines[3].endswith("-hyper")  # the RUN lines had a kernel of their own, too
        assert lines[4:] == ["/work", "bob"]
    finally:
        podman("image", "rm", "localhost/built")


def test_a_failing_build_says_so(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(f"FROM {IMAGE}\nRUN echo before; exit 9\n")
    done = podman.build(tmp_path)
    assert done.code != 0 and "exit status 9" in done.err
    assert "before" in done.out
