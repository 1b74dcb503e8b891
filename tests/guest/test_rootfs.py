"""What a container sees of the file system."""

from __future__ import annotations

import os
import stat

import pytest

from .client import AgentError, Json
from .harness import DEFAULT_MOUNTS, Guest, oci_spec

SHARE = "/run/runv/share"
WRITABLE = [{**mount, "options": ["rw"]} if mount["type"] == "cgroup" else mount for mount in DEFAULT_MOUNTS]
OWNERS = "cd /sys/fs/cgroup; stat -c %u . cgroup.procs cgroup.subtree_control cgroup.max.depth; mkdir sub && echo 0 > sub/cgroup.procs && echo moved"


def bind(source: str, destination: str, *options: str) -> Json:
    return {"destination": destination, "source": f"{SHARE}/{source}", "type": "bind", "options": ["bind", *options]}


def test_nothing_of_the_guest_is_left(guest: Guest) -> None:
    mounts = guest.shell("cat /proc/self/mountinfo").text
    assert {line.split()[4] for line in mounts.splitlines()} == {
        "/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup",
        "/proc/bus", "/proc/sys", "/proc/keys",
    }  # fmt: skip
    assert guest.shell("ls -d /run/runv /mnt /init").result["exit"] != 0


def test_chroot_does_not_lead_out(guest: Guest) -> None:
    """The classic way out for who has CAP_SYS_CHROOT: a working directory above the root."""
    program = "mkdir -p /x; chroot /x /bin/true; cd /; for i in 1 2 3 4 5 6 7 8; do cd ..; done; ls -d bin; pwd"
    capabilities = {name: ["CAP_SYS_CHROOT", "CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")}
    done = guest.shell(program, capabilities=capabilities)
    assert done.text == "bin\n/\n"


def test_readonly_root(guest: Guest) -> None:
    oci = oci_spec("sh", "-c", "touch /x; touch /dev/shm/x && echo shm; touch /made/x && echo made")
    oci["root"]["readonly"] = True
    oci["mounts"] = [*DEFAULT_MOUNTS, {"destination": "/made", "type": "tmpfs", "source": "tmpfs"}]
    done = guest.run(oci)
    assert b"Read-only file system" in done.stderr
    assert done.text == "shm\nmade\n"


def test_bind_mounts(guest: Guest) -> None:
    (guest.share / "data").mkdir()
    (guest.share / "data/file").write_text("content\n")
    mounts = [bind("data", "/new/deep/directory"), bind("data/file", "/etc/file"), bind("data", "/ro", "ro", "nosuid")]
    done = guest.shell(
        "cat /new/deep/directory/file /etc/file; touch /new/deep/directory/x; touch /ro/y", mounts=mounts
    )
    assert done.stdout == b"content\ncontent\n"
    assert b"/ro/y: Read-only file system" in done.stderr
    assert (guest.share / "data/x").exists()


def test_options_of_bind_mounts(guest: Guest) -> None:
    (guest.share / "data").mkdir()
    mounts = [
        bind("data", "/a", "ro", "nosuid", "nodev", "noexec", "noatime"),
        bind("data", "/b", "ro", "rw", "nosuid", "suid"),
        {"destination": "/c", "source": "/sys", "options": ["rbind", "rro", "rnoexec"]},
    ]
    text = guest.shell("grep -E ' /(a|b|c)( |/)' /proc/self/mounts", mounts=mounts).text
    options = {line.split()[1]: set(line.split()[3].split(",")) for line in text.splitlines()}
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= options["/a"]
    assert "rw" in options["/b"]
    assert "nosuid" not in options["/b"]
    assert {"ro", "noexec"} <= options["/c"]
    assert {"ro", "noexec"} <= options["/c/fs/cgroup"]


def test_tmpfs_with_options(guest: Guest) -> None:
    mounts = [
        {"destination": "/t", "type": "tmpfs", "source": "x", "options": ["size=1m", "mode=1700", "noexec", "ro"]}
    ]
    text = guest.shell("grep ' /t ' /proc/self/mounts; stat -c %a /t", mounts=mounts).text
    assert text.startswith("x /t tmpfs ro,noexec,relatime,size=1024k,mode=1700")
    assert text.endswith("\n1700\n")


def test_tmpcopyup(guest: Guest) -> None:
    cover = guest.rootfs / "cover"
    (cover / "sub").mkdir(parents=True)
    (cover / "sub/file").write_text("below\n")
    (cover / "sub/file").chmod(0o640)
    (cover / "link").symlink_to("sub/file")
    os.chown(cover / "sub/file", 12, 34)
    cover.chmod(0o750)
    mounts = [{"destination": "/cover", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "rprivate"]}]
    done = guest.shell(
        "cat /cover/link; stat -c %a:%u:%g /cover /cover/sub/file; echo new > /cover/sub/file", mounts=mounts
    )
    assert done.text == "below\n750:0:0\n640:12:34\n"
    assert (cover / "sub/file").read_text() == "below\n"


@pytest.mark.parametrize("target", ["/outside", "../../../../outside", "/proc/1/root/outside"])
def test_links_do_not_lead_out(guest: Guest, target: str) -> None:
    """Mount points come from the image, which may be hostile."""
    (guest.share / "data").mkdir()
    (guest.share / "data/file").write_text("content\n")
    (guest.rootfs / "way").symlink_to(target)
    mounts = [bind("data", "/way/in")]
    if target.startswith("/proc"):
        with pytest.raises(AgentError):
            guest.run(oci_spec("true", mounts=mounts))
        return
    assert guest.shell("cat /outside/in/file", mounts=mounts).text == "content\n"
    assert (guest.rootfs / "outside/in").is_dir()


@pytest.mark.parametrize("path", ["/", "", "/./", "/tmp/..", "/new/..", "/self"])
def test_root_is_no_mount_point(guest: Guest, path: str) -> None:
    (guest.rootfs / "self").symlink_to("/")
    with pytest.raises(AgentError, match="it is the root"):
        guest.run(oci_spec("true", mounts=[{"destination": path, "type": "tmpfs", "source": "tmpfs"}]))


def test_masked_and_readonly_paths(guest: Guest) -> None:
    (guest.rootfs / "secret-dir").mkdir()
    (guest.rootfs / "secret-dir/file").write_text("secret")
    (guest.rootfs / "secret-file").write_text("secret")
    (guest.rootfs / "dev/null").write_text("not a device")
    linux = {
        "maskedPaths": ["/secret-dir", "/secret-file", "/absent", "/proc/keys"],
        "readonlyPaths": ["/tmp", "/absent"],
    }
    done = guest.shell(
        "ls /secret-dir; cat /secret-file; touch /secret-dir/x; touch /tmp/x; wc -c < /proc/keys", linux=linux
    )
    assert done.text == "0\n"
    assert b"/secret-dir/x: Read-only file system" in done.stderr
    assert b"/tmp/x: Read-only file system" in done.stderr


def test_devices(guest: Guest) -> None:
    script = """
        for name in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$name; done
        for name in fd stdin stdout stderr ptmx; do readlink /dev/$name; done
        echo x > /dev/null && head -c 3 /dev/zero | wc -c
    """
    assert guest.shell(script).text.splitlines() == [
        "/dev/null character special file 1:3 666",
        "/dev/zero character special file 1:5 666",
        "/dev/full character special file 1:7 666",
        "/dev/random character special file 1:8 666",
        "/dev/urandom character special file 1:9 666",
        "/dev/tty character special file 5:0 666",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
        "3",
    ]


def test_listed_devices(guest: Guest) -> None:
    devices = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 1, "gid": 2},
        {"path": "/dev/sub/disk", "type": "b", "major": 8, "minor": 0},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
    ]
    done = guest.shell("stat -c '%F %t:%T %a %u:%g' /dev/fuse /dev/sub/disk /dev/pipe", linux={"devices": devices})
    assert done.text.splitlines() == [
        "character special file a:e5 640 1:2",
        "block special file 8:0 666 0:0",
        "fifo 0:0 600 0:0",
    ]


def test_other_device_in_the_way(guest: Guest) -> None:
    devices = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 5}]
    with pytest.raises(AgentError, match="cannot create device /dev/null: file exists"):
        guest.run(oci_spec("true", linux={"devices": devices}))


def device_rules(*rules: Json) -> Json:
    return {"resources": {"devices": list(rules)}}


class TestDeviceFilter:
    def opened(self, guest: Guest, *rules: Json) -> bool:
        """Whether a node that can be made, of a device that does not exist, can be opened as far as the filter goes."""
        capabilities = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
        linux = device_rules(*rules)
        done = guest.shell("mknod /dev/f c 10 1 && cat /dev/f", linux=linux, capabilities=capabilities)
        return b"Operation not permitted" not in done.stderr

    def test_closed_by_default(self, guest: Guest) -> None:
        assert not self.opened(guest)
        assert not self.opened(guest, {"allow": False, "access": "rwm"})

    def test_all_allowed(self, guest: Guest) -> None:
        assert self.opened(guest, {"allow": True, "type": "a", "access": "rwm"})

    def test_the_last_rule_decides(self, guest: Guest) -> None:
        yes = {"allow": True, "type": "c", "major": 10, "minor": 1, "access": "r"}
        no = {"allow": False, "type": "c", "major": 10, "access": "rw"}
        assert self.opened(guest, no, yes)
        assert not self.opened(guest, yes, no)
        assert not self.opened(guest, {**yes, "access": "w"})
        assert not self.opened(guest, {**yes, "minor": 2})
        assert not self.opened(guest, {**yes, "type": "b"})

    def test_defaults_stay_open(self, guest: Guest) -> None:
        done = guest.shell("head -c 2 /dev/urandom | wc -c", linux=device_rules({"allow": False, "access": "rwm"}))
        assert done.text == "2\n"


def test_working_directory(guest: Guest) -> None:
    assert guest.shell("pwd", cwd="/home/alice").text == "/home/alice\n"
    assert guest.shell("pwd", cwd="/made/for/it").text == "/made/for/it\n"
    with pytest.raises(AgentError, match=r'chdir to cwd \("/etc/passwd"\) set in config.json failed: not a directory'):
        guest.run(oci_spec("true", cwd="/etc/passwd"))
    with pytest.raises(AgentError, match=r"cwd must be an absolute path"):
        guest.run(oci_spec("true", cwd="tmp"))


def test_working_directory_only_the_user_may_enter(guest: Guest) -> None:
    home = guest.rootfs / "home/alice"
    os.chown(home, 1000, 1000)
    home.chmod(0o700)
    assert (
        guest.shell("pwd", cwd="/home/alice", user={"uid": 1000, "gid": 1000}, capabilities={}).text == "/home/alice\n"
    )


def test_working_directory_by_a_leaked_descriptor(guest: Guest) -> None:
    """The way out of runc's CVE-2024-21626."""
    for fd in range(3, 20):
        with pytest.raises(AgentError):
            guest.run(oci_spec("true", cwd=f"/proc/self/fd/{fd}"))


def test_only_three_descriptors(guest: Guest) -> None:
    assert guest.shell("ls /proc/self/fd").text.split() == ["0", "1", "2", "3"]  # the last one is the directory


def test_own_dev(guest: Guest) -> None:
    (guest.share / "dev").mkdir()
    oci = oci_spec("ls", "-a", "/dev")
    oci["mounts"] = [DEFAULT_MOUNTS[0], bind("dev", "/dev")]
    assert guest.run(oci).text.split() == [".", ".."]


def test_propagation(guest: Guest) -> None:
    done = guest.shell("cat /proc/self/mountinfo")
    assert "shared:" not in done.text
    done = guest.shell(
        "grep ' / / ' /proc/self/mountinfo; grep ' / ' /proc/self/mountinfo", linux={"rootfsPropagation": "shared"}
    )
    assert "shared:" in done.text
    mounts = [{"destination": "/t", "type": "tmpfs", "source": "x", "options": ["shared"]}]
    assert "shared:" in guest.shell("grep ' /t ' /proc/self/mountinfo", mounts=mounts).text


def test_cgroup_without_its_namespace(guest: Guest) -> None:
    namespaces = [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}]
    done = guest.shell("ls -d /sys/fs/cgroup/cgroup.procs; cat /sys/fs/cgroup/cgroup.procs", namespaces=namespaces)
    assert done.text.startswith("/sys/fs/cgroup/cgroup.procs\n1\n")


def test_cgroup_is_readonly_or_not(guest: Guest) -> None:
    assert guest.shell("mkdir /sys/fs/cgroup/sub").result["exit"] != 0
    oci = oci_spec("sh", "-c", "mkdir -p /sys/fs/cgroup/sub/deep && echo made")
    oci["mounts"] = WRITABLE
    assert guest.run(oci).text == "made\n"


def test_a_cgroup_that_is_seen_bears_the_name(guest: Guest) -> None:
    namespaces = [{"type": "pid"}, {"type": "mount"}]
    assert guest.shell("grep ^0: /proc/self/cgroup", namespaces=namespaces, hostname="").text.endswith("/runv/c\n")
    assert guest.shell("grep ^0: /proc/self/cgroup").text == "0::/\n"


def test_a_writable_cgroup_is_the_user_s(guest: Guest) -> None:
    """The folder and what delegates, but no file with which a limit is set."""
    oci = oci_spec("sh", "-c", OWNERS, user={"uid": 1000, "gid": 1000})
    oci["mounts"] = WRITABLE
    assert guest.run(oci).text.split() == ["1000", "1000", "1000", "0", "moved"]
    oci["mounts"] = DEFAULT_MOUNTS
    assert guest.run(oci).text.split() == ["0", "0", "0", "0"]


@pytest.mark.parametrize("path", ["/a/b", "//a//b/", "/tmp/a/../../a/./b", "/way/a/b"])
def test_new_mount_points(guest: Guest, path: str) -> None:
    (guest.rootfs / "way").symlink_to("no/such/../..")
    mount = {"destination": path, "type": "tmpfs", "source": "tmpfs"}
    assert " /a/b tmpfs " in guest.shell("grep /b /proc/self/mounts", mounts=[mount]).text
    assert stat.S_IMODE((guest.rootfs / "a/b").stat().st_mode) == 0o755


def test_remount(guest: Guest) -> None:
    """Of a bind only the mount is changed, of a file system what it holds stays."""
    (guest.share / "data").mkdir()
    mounts: list[Json] = [
        bind("data", "/data"),
        {"destination": "/data", "options": ["remount", "bind", "ro", "noexec"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "tmpcopyup"]},
        {"destination": "/tmp", "type": "tmpfs", "options": ["remount", "size=2m", "ro"]},
    ]
    (guest.rootfs / "tmp/file").write_text("kept\n")
    done = guest.shell("grep -E ' /(data|tmp) ' /proc/self/mounts; cat /tmp/file", mounts=mounts)
    data, tmp, kept = done.text.splitlines()
    assert {"ro", "noexec"} <= set(data.split()[3].split(","))
    assert {"ro", "size=2048k"} <= set(tmp.split()[3].split(","))
    assert kept == "kept"


def test_remount_of_what_is_no_mount(guest: Guest) -> None:
    with pytest.raises(AgentError) as caught:
        guest.shell("true", mounts=[{"destination": "/tmp", "options": ["remount", "bind", "ro"]}])
    assert caught.value.message == "cannot remount /tmp: invalid argument"
