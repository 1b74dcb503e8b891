"""Options become the pod that the API takes."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hyperctl import podspec
from hyperctl.app import Command
from hyperctl.commands.run import create
from hyperctl.errors import CtlError
from hyperd.spec import Pod

HERE = podspec.Place(True, "/home/me", {"TERM": "xterm", "EMPTY": ""}, lambda name: Path(name).read_text())


def made(*argv: str) -> dict[str, Any]:
    """The pod of a command line."""
    command: Command = create
    context = command.make_context("create", [*argv])
    assert context.params["image"]
    return podspec.pod(context.params, context.params["image"], context.params["args"], HERE)


def container(*argv: str) -> dict[str, Any]:
    pod = made(*argv)
    found: dict[str, Any] = pod["containers"][0]
    return found


@pytest.mark.parametrize(
    "argv",
    [
        ["busybox"],
        ["-t", "-i", "-w", "/x", "-u", "1:2", "--group-add", "3", "-e", "A=1", "busybox", "sh", "-c", "exit"],
        ["--cpu", "2", "-m", "512", "--cpus", "0.5", "--cpu-shares", "100", "--memory-limit", "64m", "--pids-limit", "9", "busybox"],
        ["--publish", "80:80", "--publish", "udp:53:53", "--network", "a", "--network", "b", "--ip", "10.0.0.9", "--mac", "02:00:00:00:00:01", "x"],
        ["--dns", "1.1.1.1", "--dns-search", "a", "--dns-option", "ndots:2", "--add-host", "a:1.2.3.4", "--hostname", "h", "x"],
        ["--cap-add", "CAP_NET_ADMIN", "--cap-drop", "all", "--privileged", "--security-opt", "no-new-privileges", "--read-only", "x"],
        ["--security-opt", "seccomp=unconfined", "--sysctl", "net.ipv4.ip_forward=1", "--ulimit", "nofile=10:20", "--restart", "on-failure:3", "x"],
        ["--health-cmd", "test -e /ok", "--health-interval", "1s", "--health-timeout", "500ms", "--health-retries", "2", "--health-start-period", "1m", "x"],
        ["-v", "/etc:/e:ro", "-v", "data:/d", "-v", "/a", "--tmpfs", "/t:size=1m", "--storage-size", "1g", "--pull", "never", "x"],
        ["--log-driver", "cri", "--log-opt", "max-size=1m", "--log-opt", "max-file=2", "--stop-signal", "int", "--stop-timeout", "1m", "x"],
        ["--network", "none", "--label", "a=b", "--label", "c", "--entrypoint", "/bin/sh -c", "x", "ls"],
    ],
    ids=lambda argv: " ".join(argv)[:40],
)
def test_the_daemon_knows_every_field(argv: list[str]) -> None:
    msgspec.convert(made(*argv), Pod)


def test_names() -> None:
    name = made("registry.example.org:5000/a/My_App:1.2@sha256:00")["name"]
    assert name.startswith("my-app-") and name.removeprefix("my-app-").isdecimal()
    assert made("--name", "web", "nginx")["name"] == "web"
    assert container("--name", "web", "nginx")["name"] == "nginx"


def test_the_machine_and_the_container_have_sizes_of_their_own() -> None:
    pod = made("--cpu", "2", "--memory", "1.5g", "--cpus", "0.5", "--memory-limit", "64m", "x")
    assert (pod["vcpus"], pod["memory_mib"]) == (2, 1536)
    assert pod["containers"][0]["resources"] == {"cpus": 0.5, "memory": 64 << 20}


def test_options_of_the_program_are_its_own() -> None:
    assert container("busybox", "ls", "-t", "--rm")["args"] == ["ls", "-t", "--rm"]


def test_stdin() -> None:
    assert "stdin" not in container("x")
    assert container("-i", "x")["stdin_once"] and container("-i", "x")["stdin"]
    assert "stdin_once" not in container("-t", "x") and "stdin_once" not in container("-t", "-i", "x")


def test_entrypoint() -> None:
    found = container("--entrypoint", "a 'b c'", "x", "d")
    assert (found["command"], found["args"]) == (["a", "b c"], ["d"])
    assert container("--entrypoint", "", "x", "d", "e")["command"] == ["d", "e"]
    with pytest.raises(CtlError, match="empty entrypoint"):
        made("--entrypoint", "", "x")


def test_environment(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# no\n\nA=1\nTERM\nB=x=y\n")
    assert container("--env-file", str(file), "-e", "A=2", "-e", "EMPTY", "-e", "ABSENT", "x")["environment"] == [
        ["A", "2"],
        ["TERM", "xterm"],
        ["B", "x=y"],
        ["EMPTY", ""],
    ]
    with pytest.raises(CtlError, match="NAME=VALUE"):
        made("-e", "=x", "x")


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("8080:80", [("", 8080, 80, "tcp")]),
        ("80", [("", 0, 80, "tcp")]),
        ("udp:53:5353", [("", 53, 5353, "udp")]),
        ("127.0.0.1:53:5353/udp", [("127.0.0.1", 53, 5353, "udp")]),
        ("[::1]:1:2", [("::1", 1, 2, "tcp")]),
        ("127.0.0.1::80", [("127.0.0.1", 0, 80, "tcp")]),
        ("8000-8001:80-81", [("", 8000, 80, "tcp"), ("", 8001, 81, "tcp")]),
        ("8000-8001:80", [("", 8000, 80, "tcp"), ("", 8001, 80, "tcp")]),
    ],
)
def test_ports(text: str, ports: list[tuple[str, int, int, str]]) -> None:
    found = [(p.get("host_ip", ""), p["host_port"], p["container_port"], p.get("protocol", "tcp")) for p in podspec.published(text)]
    assert found == ports


@pytest.mark.parametrize("text", ["", ":", "x:80", "80:x", "0:80", "80:70000", "1-3:1-2", "5-4:5-4", "80:80/icmp", "1:2:3:4", "[::1:1:2", "80:"])
def test_bad_ports(text: str) -> None:
    with pytest.raises(CtlError):
        podspec.published(text)


def test_volumes(tmp_path: Path) -> None:
    pod = made("-v", f"{tmp_path}:/a", "-v", f"{tmp_path}/new:/b:ro", "-v", "data:/c", "-v", "/d", "-v", "data:/e", "-v", "../x:/f", "x")
    mounts = pod["containers"][0]["mounts"]
    by_name = {volume["name"]: volume["source"] for volume in pod["volumes"]}
    assert [by_name[m["volume"]] for m in mounts] == [
        {"kind": "host", "path": str(tmp_path)},
        {"kind": "host", "path": f"{tmp_path}/new", "type": "DirectoryOrCreate"},
        {"kind": "named", "name": "data"},
        {"kind": "empty"},
        {"kind": "named", "name": "data"},
        {"kind": "host", "path": "/home/x", "type": "DirectoryOrCreate"},
    ]
    assert [m["path"] for m in mounts] == ["/a", "/b", "/c", "/d", "/e", "/f"]
    assert mounts[1]["read_only"] and "read_only" not in mounts[0]
    assert mounts[2]["volume"] == mounts[4]["volume"] and len(by_name) == 5


@pytest.mark.parametrize(
    "argv",
    [
        ["-v", "a:b"],
        ["-v", "a:/b:zz"],
        ["-v", ":/b"],
        ["--tmpfs", "t"],
        ["--tmpfs", "/t:huge=1"],
        ["--ulimit", "nofile"],
        ["--ulimit", "nofile=x"],
        ["--sysctl", "a"],
        ["--restart", "sometimes"],
        ["--restart", "on-failure:x"],
        ["--restart", "always:3"],
        ["--no-healthcheck", "--health-cmd", "true"],
        ["--health-interval", "soon"],
        ["--memory", "lots"],
        ["--log-opt", "max-size=many"],
        ["--log-opt", "colour=red"],
        ["--security-opt", "apparmor=x"],
        ["--add-host", "a"],
        ["--network", "none", "--publish", "80:80"],
        ["--stop-timeout", "soon"],
    ],
    ids=" ".join,
)
def test_what_is_not_understood_is_refused(argv: list[str]) -> None:
    with pytest.raises(CtlError):
        made(*argv, "x")


def test_restart_policies_have_the_names_of_docker() -> None:
    assert made("x").get("restart") is None
    assert [made("--restart", name, "x")["restart"] for name in ("no", "always", "unless-stopped")] == ["never", "always", "unless-stopped"]
    assert {name: made("--restart", "on-failure:3", "x")[name] for name in ("restart", "restart_retries")} == {"restart": "on-failure", "restart_retries": 3}
    assert "restart_retries" not in made("--restart", "on-failure:0", "x")


def test_name_servers_that_are_named_are_the_only_ones() -> None:
    assert made("--dns", "1.1.1.1", "x")["dns"] == {"servers": ["1.1.1.1"], "policy": "none"}
    assert made("--dns-search", "a", "x")["dns"] == {"searches": ["a"]}, "beside what the networks say"


def test_health_checks() -> None:
    assert container("x")["healthcheck"] == {}, "what the image says"
    assert container("--no-healthcheck", "x")["healthcheck"] == {"test": ["NONE"]}
    flags = ["--health-cmd", "test -e /ok", "--health-interval", "1m30s", "--health-timeout", "500ms", "--health-retries", "2"]
    assert container(*flags, "x")["healthcheck"] == {"test": ["CMD-SHELL", "test -e /ok"], "interval_s": 90, "timeout_s": 0.5, "retries": 2}
