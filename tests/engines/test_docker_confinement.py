"""Capabilities, seccomp, limits and devices: what Docker's flags promise, the guest's kernel keeps."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.vm.harness import wait_until

from .docker import Docker
from .harness import IMAGE

pytestmark = pytest.mark.engines


def test_capabilities(docker: Docker) -> None:
    script = "chown alice /tmp && echo chown; mount -t tmpfs none /mnt 2>&1; ip link set lo down 2>&1"
    plain = docker.run(IMAGE, "sh", "-c", script).out
    assert "chown" in plain and plain.count("Operation not permitted") + plain.count("permission denied") == 2
    dropped = docker.run("--cap-drop", "CHOWN", IMAGE, "sh", "-c", script).out
    assert "chown\n" not in dropped
    added = docker.run("--cap-add", "NET_ADMIN", IMAGE, "sh", "-c", "ip link set lo down && ip link").ok().out
    assert "lo: <LOOPBACK> " in added


@pytest.mark.smoke
def test_seccomp(docker: Docker) -> None:
    script = "grep Seccomp: /proc/self/status; unshare -U true"
    filtered = docker.run(IMAGE, "sh", "-c", script)
    assert filtered.out == "Seccomp:\t2\n"
    assert filtered.code != 0 and "Operation not permitted" in filtered.err
    free = docker.run("--security-opt", "seccomp=unconfined", IMAGE, "sh", "-c", script).ok()
    assert free.out == "Seccomp:\t0\n"


def test_privileged(docker: Docker) -> None:
    script = """
        grep CapEff /proc/self/status; grep Seccomp: /proc/self/status
        mount -t tmpfs none /mnt && touch /mnt/x && ls /mnt
        echo 0 > /proc/sys/vm/overcommit_memory && echo written
        ls -l /dev/null /dev/kmsg | wc -l
    """
    done = docker.run("--privileged", IMAGE, "sh", "-c", script).ok()
    assert done.lines == ["CapEff:\t0000003fffffffff", "Seccomp:\t0", "x", "written", "2"]


def test_limits_of_resources(docker: Docker) -> None:
    flags = ("--ulimit", "nofile=1000:2000", "--ulimit", "nproc=500", "--shm-size", "32m")
    sysctls = (
        "--sysctl",
        "net.core.somaxconn=777",
        "--sysctl",
        "kernel.msgmax=9999",
        "--sysctl",
        "net.ipv4.ip_forward=1",
    )
    script = """
        ulimit -Sn; ulimit -Hn; ulimit -u; df -k /dev/shm | tail -1 | awk '{ print $2 }'
        cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward
    """
    done = docker.run(*flags, *sysctls, IMAGE, "sh", "-c", script).ok()
    assert done.lines == ["1000", "2000", "500", "32768", "777", "9999", "1"]


def test_limits_above_the_hosts(docker: Docker) -> None:
    """The host's own limits do not bind the guest's kernel."""
    done = docker.run("--ulimit", "nofile=2000000", "--ulimit", "memlock=-1", IMAGE, "sh", "-c", "ulimit -n; ulimit -l")
    assert done.ok().lines == ["2000000", "unlimited"]


def test_limit_of_processes(docker: Docker) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 3 & done; echo all"
    done = docker.run("--pids-limit", "5", IMAGE, "sh", "-c", script)
    assert "all" not in done.out and "can't fork" in done.err
    assert docker.run("--pids-limit", "30", IMAGE, "sh", "-c", script).ok().out == "all\n"


@pytest.mark.smoke
def test_limit_of_memory(docker: Docker) -> None:
    name = docker.detached("-m", "32m", IMAGE, "sh", "-c", "tail /dev/zero")
    assert docker("wait", name).out == "137\n"
    wait_until(lambda: bool(docker.inspect(name)["State"]["OOMKilled"]), "Docker to hear of it")


def test_no_oom_of_what_fits(docker: Docker) -> None:
    name = docker.detached(
        "-m", "64m", IMAGE, "sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=16 2>/dev/null; kill -9 $$; exit 1"
    )
    docker("wait", name)
    assert docker.inspect(name)["State"]["OOMKilled"] is False


def test_limit_of_processors(docker: Docker) -> None:
    script = "cat /sys/fs/cgroup/cpu.max; nproc"
    done = docker.run("--cpus", "1.5", IMAGE, "sh", "-c", script).ok()
    assert done.lines == ["150000 100000", "2"]


def test_devices(docker: Docker) -> None:
    flags = ("--device", "/dev/fuse", "--device", "/dev/null:/dev/nothing")
    script = "ls -ln /dev/fuse /dev/nothing | cut -c 1-45; echo x > /dev/nothing; : < /dev/fuse && echo opened"
    ours, theirs = (docker.run("--runtime", r, *flags, IMAGE, "sh", "-c", script).ok().lines for r in ("runv", "runc"))
    assert ours == theirs
    assert ours[-1] == "opened" and "10, 229" in ours[0] and "1,   3" in ours[1]


def test_a_block_device(docker: Docker, tmp_path: Path) -> None:
    """A disk of the host becomes one of the machine; the container finds it where it asked for it, and may do what it asked for."""
    image = tmp_path / "image"
    image.write_bytes(b"content" + bytes(1 << 20))
    losetup = ("losetup", "--find", "--show", str(image))
    loop = subprocess.run(losetup, check=True, capture_output=True, text=True).stdout.strip()
    script = "ls -l /dev/xvda | cut -c 1; head -c 7 /dev/xvda; printf changed | dd of=/dev/xvda conv=fsync,notrunc 2>/dev/null && echo written"
    try:
        reader = docker.run("--device", f"{loop}:/dev/xvda:r", IMAGE, "sh", "-c", script)
        assert reader.out == "b\ncontent" and image.read_bytes()[:7] == b"content"
        writer = docker.run("--device", f"{loop}:/dev/xvda", IMAGE, "sh", "-c", script).ok()
        assert writer.lines == ["b", "contentwritten"] and image.read_bytes()[:7] == b"changed"
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)


def test_devices_that_were_not_given(docker: Docker) -> None:
    script = "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null"
    done = docker.run(IMAGE, "sh", "-c", script).ok()
    assert done.out == "null\n" and "Operation not permitted" in done.err
