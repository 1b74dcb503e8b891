"""Namespaces: new ones, shared ones, and what only makes sense in them."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest

from .client import AgentError, Json
from .harness import DEFAULT_MOUNTS, Guest, oci_spec, process_spec

SHOW = "for n in pid mnt ipc uts cgroup user time net; do readlink /proc/self/ns/$n; done"


def namespaces(*types: str, **shared: str) -> list[Json]:
    return [{"type": name} for name in types] + [{"type": name, "container": other} for name, other in shared.items()]


def of_container(guest: Guest, process: str = "x", container: str = "c") -> dict[str, str]:
    text = guest.exec(container, "sh", "-c", SHOW, process=process).text
    return dict(line.rstrip("]").split(":[") for line in text.splitlines())


def of_sandbox(guest: Guest) -> dict[str, str]:
    names = ("pid", "mnt", "ipc", "uts", "cgroup", "user", "time", "net")
    return dict(os.readlink(f"/proc/{guest.pid}/ns/{name}").rstrip("]").split(":[") for name in names)


def test_new_ones(guest: Guest) -> None:
    sandbox = of_sandbox(guest)
    with guest.running("sleep", "100"):
        container = of_container(guest)
    same = {name for name in sandbox if sandbox[name] == container[name]}
    assert same == {"user", "time", "net"}


def test_absent_ones_are_the_sandbox_s(guest: Guest) -> None:
    """All but the mount namespace, without which there is no container."""
    sandbox = of_sandbox(guest)
    with guest.running("sleep", "100", namespaces=[], hostname=""):
        container = of_container(guest)
    same = {name for name in sandbox if sandbox[name] == container[name]}
    assert same == {"pid", "ipc", "uts", "cgroup", "user", "time", "net"}


def test_sharing(guest: Guest) -> None:
    shared = namespaces("mount", "cgroup", pid="c", ipc="c", uts="c", network="c")
    with guest.running("sleep", "100"), guest.running("sleep", "50", container="d", namespaces=shared, hostname=""):
        first, second = of_container(guest), of_container(guest, container="d")
        same = {name for name in first if first[name] == second[name]}
        assert same == {"pid", "ipc", "uts", "user", "time", "net"}
        text = guest.exec("d", "sh", "-c", "ps -o args; hostname").text
        assert "sleep 100\nsleep 50\n" in text
        assert text.endswith("box\n")


def test_end_of_the_sharer_s_init(guest: Guest) -> None:
    """The pid namespace ends with its first process, and takes the other container with it."""
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    guest.control.call("start", container="c")
    with guest.running("sleep", "50", container="d", namespaces=namespaces("mount", pid="c"), hostname=""):
        guest.control.call("signal", container="c", signal=9)
        assert guest.control.call("wait", container="d") == {"signal": 9}
        assert guest.control.call("wait", container="c") == {"signal": 9}
        with pytest.raises(AgentError) as caught:
            guest.control.call("create", container="e", oci=oci_spec("true", namespaces=namespaces("mount", pid="c")))
        assert caught.value.kind == "state"
    guest.control.call("delete", container="c")


def test_shared_mount_namespace(guest: Guest) -> None:
    shared = namespaces("pid", mount="c")
    with guest.running("sh", "-c", "mount -t tmpfs x /tmp; touch /tmp/mine; sleep 100", capabilities=ADMIN):
        oci = oci_spec("sh", "-c", "until ls /tmp/mine; do sleep 0.05; done", namespaces=shared, hostname="")
        assert guest.run(oci, "d").text == "/tmp/mine\n"


ADMIN = {
    name: ["CAP_SYS_ADMIN", "CAP_SYS_TIME", "CAP_SETUID", "CAP_SETGID"]
    for name in ("bounding", "effective", "permitted")
}


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"type": "pid", "container": "nobody"}, "not-found"),
        ({"type": "pid", "container": "c"}, "state"),
        ({"type": "pid", "path": "/proc/1/ns/pid"}, "invalid"),
        ({"type": "fun"}, "invalid"),
    ],
)
def test_refused(guest: Guest, entry: Json, kind: str) -> None:
    with pytest.raises(AgentError) as caught:
        guest.control.call("create", container="c", oci=oci_spec("true", namespaces=[entry]))
    assert caught.value.kind == kind


def test_hostname_needs_a_namespace(guest: Guest) -> None:
    with pytest.raises(AgentError, match="unable to set hostname without a private UTS namespace"):
        guest.run(oci_spec("true", namespaces=namespaces("pid", "mount")))


def test_names(guest: Guest) -> None:
    oci = oci_spec("sh", "-c", "hostname; cat /proc/sys/kernel/domainname")
    assert guest.run(oci | {"domainname": "example"}).text == "box\nexample\n"


def test_sysctl(guest: Guest) -> None:
    linux = {"sysctl": {"kernel.shm_rmid_forced": "1", "net/ipv4/ip_forward": "1", "kernel.domainname": "d"}}
    script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/domainname"
    assert guest.shell(script, linux=linux).text == "1\n1\nd\n"
    with pytest.raises(AgentError, match=r"cannot set sysctl kernel\.nonesuch: no such file or directory"):
        guest.run(oci_spec("true", linux={"sysctl": {"kernel.nonesuch": "1"}}))
    with pytest.raises(AgentError) as caught:
        guest.run(oci_spec("true", linux={"sysctl": {"../../etc/passwd": "1"}}))
    assert caught.value.kind == "invalid"


class TestTime:
    def test_offsets(self, guest: Guest) -> None:
        linux = {"timeOffsets": {"monotonic": {"secs": 1000}, "boottime": {"secs": 864000, "nanosecs": 5}}}
        oci = oci_spec("sh", "-c", "cat /proc/uptime; cat /proc/self/timens_offsets", linux=linux,
                       namespaces=namespaces("pid", "mount", "uts", "time"))  # fmt: skip
        lines = guest.run(oci).text.splitlines()
        assert float(lines[0].split()[0]) > 864000
        assert lines[1].split() == ["monotonic", "1000", "0"]
        assert lines[2].split() == ["boottime", "864000", "5"]

    def test_of_further_processes(self, guest: Guest) -> None:
        linux = {"timeOffsets": {"boottime": {"secs": 864000}}}
        with guest.running("sleep", "100", linux=linux, namespaces=namespaces("pid", "mount", "uts", "time")):
            assert float(guest.exec("c", "cat", "/proc/uptime").text.split()[0]) > 864000


class TestUser:
    """User namespaces: root in the container is nobody outside."""

    LINUX: ClassVar[Json] = {
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    }

    def spec(self, guest: Guest, script: str, **members: object) -> Json:
        for path in [guest.rootfs, *guest.rootfs.rglob("*")]:
            if not path.is_symlink():
                os.chown(path, 100000, 100000)
        types = ("pid", "mount", "ipc", "uts", "cgroup", "user")
        oci = oci_spec("sh", "-c", script, namespaces=namespaces(*types), linux=self.LINUX, **members)  # type: ignore[arg-type]
        oci["mounts"] = [mount for mount in DEFAULT_MOUNTS if mount["type"] != "sysfs"]
        oci["mounts"].insert(1, {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]})
        return oci

    def test_maps_and_root(self, guest: Guest) -> None:
        script = """
            cat /proc/self/uid_map; id -u; id -g; touch /tmp/f /dev/shm/g
            stat -c %u /tmp/f /dev/null; echo > /dev/null; hostname
        """
        done = guest.run(self.spec(guest, script))
        assert done.text.split() == ["0", "100000", "65536", "0", "0", "0", "65534", "box"], done.stderr
        assert (guest.rootfs / "tmp/f").stat().st_uid == 100000

    def test_its_root_owns_its_cgroup(self, guest: Guest) -> None:
        oci = self.spec(guest, "stat -c %u /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/sub && echo made")
        oci["mounts"] = [mount | ({"options": ["rw"]} if mount["type"] == "cgroup" else {}) for mount in oci["mounts"]]
        done = guest.run(oci)
        assert done.text.split() == ["0", "made"], done.stderr

    def test_terminal(self, guest: Guest) -> None:
        guest.control.call("create", container="c", oci=self.spec(guest, "tty; echo > /dev/console", terminal=True))
        with guest.stream("c", "init", "tty") as tty:
            guest.control.call("start", container="c")
            assert tty.recv(100).startswith(b"/dev/pts/0")
        guest.control.call("delete", container="c")

    def test_exec_and_sharing(self, guest: Guest) -> None:
        guest.control.call("create", container="c", oci=self.spec(guest, "sleep 100"))
        guest.control.call("start", container="c")
        assert guest.exec("c", "sh", "-c", "cat /proc/self/uid_map; id -u; hostname").text.split() == [
            "0",
            "100000",
            "65536",
            "0",
            "box",
        ]
        oci = self.spec(guest, "cat /proc/self/uid_map; id -u; ps -o args")
        oci["hostname"] = ""
        oci["linux"]["namespaces"] = namespaces("mount", user="c", pid="c", ipc="c", uts="c")
        done = guest.run(oci, "d")
        assert done.text.split()[:4] == ["0", "100000", "65536", "0"], done.stderr
        assert "sleep 100" in done.text
        guest.control.call("delete", container="c")

    def test_needs_maps(self, guest: Guest) -> None:
        with pytest.raises(AgentError) as caught:
            guest.control.call("create", container="c", oci=oci_spec("true", namespaces=namespaces("user", "uts")))
        assert caught.value.kind == "invalid"
        assert "uidMappings" in caught.value.message


def test_outsiders_cannot_look_at_a_process_that_is_being_made(guest: Guest) -> None:
    """It waits in the container's namespaces with PID 1's memory: nobody there may read that."""
    with guest.running("sleep", "100"):
        guest.control.call("exec", container="c", process="x", spec=process_spec("true"))
        script = "for p in /proc/[0-9]*; do readlink $p/fd/0 > /dev/null 2>&1 || echo hidden; done"
        assert guest.exec("c", "sh", "-c", script, process="y").text == "hidden\n"
