"""What commands ask the daemon for, what they print, and what they say when it goes wrong."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hyperctl.connect import connect
from hyperctl.errors import ConnectError
from hyperctl.main import ALIASES, COMMANDS
from hyperctl.settings import Settings
from tests.hyperctl.conftest import CONTAINER_ID, POD_ID, WEB, Cli
from tests.hyperctl.fake import Asked, Fake, Lines, refusal

NGINX = f"/containers/{CONTAINER_ID}"
IMAGE = {"id": "sha256:" + "ab" * 32, "names": ["docker.io/library/busybox:latest"], "digests": ["busybox@sha256:cd"], "created": "", "size": 4 << 20}


# --- the whole ---


@pytest.mark.parametrize("name", [*COMMANDS, *ALIASES])
def test_every_command_has_help(cli: Cli, name: str) -> None:
    done = cli(name, "--help")
    assert done.status == 0 and "Usage: hyperctl" in done.out
    assert cli("help", name).out == done.out


def test_unknown_command(cli: Cli) -> None:
    done = cli("strart")
    assert done.status == 2 and "did you mean start?" in done.error


def test_usage_of_run_is_125(cli: Cli) -> None:
    assert cli("run", "--no-such-option").status == 125
    assert cli("run").status == 125
    assert cli("list", "--no-such-option").status == 2


# --- the daemon is not there ---


def test_no_daemon(cli: Cli, home: Path) -> None:
    done = cli("-H", f"unix://{home}/none.sock", "list")
    assert done.status == 1
    assert f"cannot reach hyperd at {home}/none.sock" in done.error and "systemctl start hyperd" in done.error


def test_version_without_a_daemon(cli: Cli, home: Path) -> None:
    done = cli("-H", f"unix://{home}/none.sock", "version", "--format", "json")
    assert done.status == 1 and json.loads(done.out)["server"] is None


def test_no_right_to_the_socket(fake: Fake) -> None:
    os.chmod(fake.socket, 0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(ConnectError) as caught:
            connect(Settings(host=f"unix://{fake.socket}"))
    finally:
        os.seteuid(before)
    assert "Permission denied" in caught.value.message and "usermod -aG" in caught.value.hint


def test_no_plain_tcp_to_others(cli: Cli) -> None:
    done = cli("-H", "tcp://192.0.2.1", "list")
    assert done.status == 1 and "without TLS" in done.error and "--tlscert" in done.error


# --- errors of the daemon ---


def test_an_error_is_one_line_and_a_hint(cli: Cli, fake: Fake) -> None:
    fake.answers["GET /pods"] = refusal(503, "unavailable", "the disk is full\x1b[2J", hint="make room")
    done = cli("list")
    assert (done.status, done.out) == (1, "")
    assert done.error == "hyperctl: the disk is full\N{REPLACEMENT CHARACTER}[2J\n  make room\n"


@pytest.mark.parametrize("answer", [b"<html>", b'{"a": ', b"[1]\xff"])
def test_an_answer_that_is_no_json(cli: Cli, fake: Fake, answer: bytes) -> None:
    fake.answers["GET /pods"] = answer
    done = cli("list")
    assert done.status == 1 and "not JSON" in done.error


def test_a_lost_connection(cli: Cli, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: Asked) -> Any:
        import time

        time.sleep(1.0)
        return []

    monkeypatch.setenv("HYPER_TIMEOUT_S", "0.2")
    fake.answers["GET /pods"] = slow
    done = cli("list")
    assert done.status == 1 and "does not answer in time" in done.error


def test_each_name_is_tried(cli: Cli, fake: Fake) -> None:
    fake.answers["DELETE /pods/web"] = None
    done = cli("rm", "gone", "web", "lost")
    assert done.status == 1 and done.out == "web\n"
    assert "gone: no such pod or container" in done.error and "lost" in done.error and "hyperctl list" in done.error
    assert cli("rm", "-f", "gone", "web").status == 0
    assert fake.requests("DELETE")[-1].query == {"force": "1"}


def test_arguments_that_are_not_utf8(cli: Cli, fake: Fake) -> None:
    for argv in (["inspect", "\udcff"], ["update", "-l", "a=\udcff", "web"]):
        done = cli(*argv)
        assert done.status == 1 and "it is not UTF-8" in done.error
    assert not fake.asked


# --- lists ---


@pytest.fixture
def listed(fake: Fake) -> Fake:
    other = {**WEB, "id": "f" * 16, "name": "job", "state": "stopped", "exit_code": 3, "addresses": [], "ports": [], "containers": []}
    fake.answers["GET /pods"] = [WEB, other]
    fake.answers["GET /containers"] = [
        {"id": CONTAINER_ID, "name": "nginx", "pod": "web", "image": "nginx", "state": "exited", "exit_code": 137, "oom": True, "restarts": 2}
    ]
    fake.answers["GET /vms"] = [{"id": POD_ID, "pod": "web", "pid": 7, "vcpus": 1, "memory_mib": 128, "state": "running"}]
    fake.answers["GET /images"] = [IMAGE, {**IMAGE, "names": []}]
    return fake


def words(text: str) -> list[list[str]]:
    import re

    return [re.split(r" {2,}", line) for line in text.splitlines()]


def test_list_of_pods(cli: Cli, listed: Fake) -> None:
    rows = words(cli("list").out)
    assert rows[0] == ["POD ID", "NAME", "STATUS", "READY", "ADDRESS", "PORTS", "AGE"]
    assert rows[1][:6] == [POD_ID[:12], "web", "running", "1/1", "10.1.0.2", "8080->80/tcp"]
    assert rows[2][:4] == ["f" * 12, "job", "stopped (3)", "0/0"]
    assert words(cli("ps", "--no-trunc").out)[1][0] == POD_ID
    assert cli("list", "-q").out == "web\njob\n"
    assert cli("list", "-q", "--no-trunc").out == f"{POD_ID}\n{'f' * 16}\n"
    assert cli("list", "-q", "--running", "-l", "a=b").out == "web\n"
    assert listed.asked[-1].query == {"label": "a=b"}


def test_list_of_containers_and_machines(cli: Cli, listed: Fake) -> None:
    assert words(cli("list", "container").out)[1] == [CONTAINER_ID[:12], "nginx", "web", "nginx", "exited (137, out of memory)", "2", "-"]
    assert cli("list", "container", "-p", "other", "-q").out == ""
    assert words(cli("list", "vm").out)[1] == [POD_ID, "web", "7", "1", "128 MiB", "running"]


def test_list_for_machines(cli: Cli, listed: Fake) -> None:
    assert json.loads(cli("list", "--format", "json").out)[0] == WEB
    assert cli("list", "--format", "{{.Name}} {{.State}} {{len .Containers}}").out == "web running 1\njob stopped 0\n"
    assert "- id: 0123456789abcdef\n" in cli("list", "--format", "yaml").out
    done = cli("list", "--format", "{{.Colour}}")
    assert done.status == 1 and "no field Colour" in done.error
    assert cli("list", "--format", "xml").status == 2


def test_images(cli: Cli, listed: Fake) -> None:
    assert words(cli("images").out)[1] == ["docker.io/library/busybox:latest", "ab" * 6, "-", "4.00 MiB"]
    assert len(cli("images").out.splitlines()) == 2 and len(cli("images", "-a").out.splitlines()) == 3
    assert cli("images", "-q", "busybox").out == "ab" * 6 + "\n"
    assert cli("images", "-q", "box").out == ""


def test_inspect(cli: Cli, fake: Fake) -> None:
    assert json.loads(cli("inspect", "web").out) == [WEB]
    assert cli("inspect", "--format", "{{.Containers.0.Name}}", "web").out == "nginx\n"
    done = cli("inspect", "web", "gone")
    assert done.status == 1 and json.loads(done.out) == [WEB] and "gone: no such" in done.error
    assert cli("inspect", "--type", "volume", "web").status == 1


# --- what is done to them ---


@pytest.mark.parametrize(
    ("argv", "request_line", "query", "body"),
    [
        (["start", "web"], "POST /pods/web/start", {"wait": "60.0"}, None),
        (["stop", "--time", "1m", "web"], "POST /pods/web/stop", {"timeout": "60.0"}, None),
        (["restart", "web"], "POST /pods/web/restart", {}, None),
        (["kill", "-s", "sigusr1", "web"], "POST /pods/web/kill", {"signal": "USR1"}, None),
        (["kill", "web"], "POST /pods/web/kill", {"signal": "KILL"}, None),
        (["pause", "web"], "POST /pods/web/pause", {}, None),
        (["resume", "web"], "POST /pods/web/unpause", {}, None),
        (["update", "--cpu", "2", "-m", "1g", "-l", "a=b", "--label-rm", "c", "web"], "PATCH /pods/web", {}, {"labels": {"a": "b", "c": None}, "machine": {"vcpus": 2, "memory_mib": 1024}}),
        (["ports", "rm", "-p", "8443:443", "web"], "DELETE /pods/web/ports", {}, {"ports": [{"host_port": 8443, "container_port": 443}]}),
        (["update", "--cpus", "0.5", "--memory-limit", "300m", "-c", "a", "web"], "PATCH /pods/web", {}, {"resources": {"cpu": 0.5, "memory": 300}, "container": "a"}),
        (["ports", "add", "-p", "8443:443", "web"], "POST /pods/web/ports", {}, {"ports": [{"container_port": 443, "host_port": 8443}]}),
        (["ports", "delete", "-p", "8443:443", "web"], "DELETE /pods/web/ports", {}, {"ports": [{"container_port": 443, "host_port": 8443}]}),
        (["rmi", "-f", "a/b"], "DELETE /images/a%2Fb", {"force": "1"}, None),
        (["tag", "a", "b:1"], "POST /images/tag", {}, {"source": "a", "target": "b:1"}),
        (["volume", "create", "-s", "1g", "data"], "POST /volumes", {}, {"name": "data", "size": 1 << 30, "fstype": "ext4", "labels": {}}),
        (["volume", "resize", "data", "2g"], "PATCH /volumes/data", {}, {"size": 2 << 30}),
        (["volume", "snapshot", "data", "new"], "POST /volumes/data/snapshot", {}, {"name": "new"}),
        (["volume", "rm", "data"], "DELETE /volumes/data", {}, None),
        (["volume", "attach", "--read-only", "web", "data", "/d"], "POST /pods/web/volumes/data", {}, {"path": "/d", "read_only": True}),
        (["volume", "detach", "web", "data"], "DELETE /pods/web/volumes/data", {}, None),
        (["network", "create", "--subnet", "10.7.0.0/24", "--internal", "back"], "POST /networks", {}, {"name": "back", "subnets": ["10.7.0.0/24"], "internal": True}),
        (["network", "connect", "--ip", "10.7.0.9", "back", "web"], "POST /networks/back/connect", {}, {"pod": "web", "addresses": ["10.7.0.9"]}),
        (["network", "disconnect", "back", "web"], "POST /networks/back/disconnect", {}, {"pod": "web"}),
        (["network", "rm", "back"], "DELETE /networks/back", {}, None),
        (["prune", "-f", "--all"], "POST /prune", {}, {"all": True, "volumes": False}),
        (["commit", "-m", "why", "-c", "CMD x", "web", "a:1"], f"POST {NGINX}/commit", {}, {"reference": "a:1", "author": "", "message": "why", "changes": ["CMD x"], "pause": True}),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)  # fmt: skip
def test_requests(cli: Cli, fake: Fake, argv: list[str], request_line: str, query: dict[str, str], body: Any) -> None:
    fake.answers[request_line] = {}
    done = cli(*argv)
    assert (done.status, done.error) == (0, "")
    method, _, path = request_line.partition(" ")
    assert fake.asked[-1] == Asked(method, path, query, body)


def test_prune_asks_first(cli: Cli, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))
    assert cli("prune").status == 130
    assert cli("volume", "prune").status == 130
    assert not fake.asked


def test_update_of_nothing(cli: Cli, fake: Fake) -> None:
    assert cli("update", "web").status == 2
    assert cli("update", "-c", "a", "--cpu", "2", "web").status == 2
    assert not fake.asked


def test_bad_signal(cli: Cli, fake: Fake) -> None:
    assert cli("kill", "-s", "LOUD", "web").status == 2
    assert not fake.asked


def test_wait(cli: Cli, fake: Fake) -> None:
    fake.answers["GET /pods/web/wait"] = {"code": 3, "signal": None, "oom": False}
    assert cli("wait", "web").out == "3\n"


def test_stats_once(cli: Cli, fake: Fake) -> None:
    used = iter([0, 10**9])
    fake.answers["GET /pods/web/stats"] = lambda _: {"cpu": {"usage_ns": next(used)}, "memory": {"usage": 1 << 20, "limit": 1 << 27}, "pids": 3}
    rows = words(cli("stats", "--no-stream", "web").out)
    assert rows[1][0] == "web" and 20 < float(rows[1][1].rstrip("%")) <= 100
    assert rows[1][2] == "1.00 MiB / 128 MiB" and rows[1][-1] == "3"


def test_top(cli: Cli, fake: Fake) -> None:
    fake.answers["GET /pods/web/top"] = {"titles": ["PID", "COMMAND"], "processes": [[1, "nginx"]]}
    assert cli("top", "web").out == "PID   COMMAND\n1     nginx\n"


# --- logs and events ---


def test_logs(cli: Cli, fake: Fake) -> None:
    fake.answers[f"GET {NGINX}/logs"] = Lines(
        [{"time": "T1", "stream": "stdout", "text": "one\n"}, {"time": "T2", "stream": "stderr", "text": "two"}, {"time": "T3", "stream": "stdout", "text": "three\n"}]
    )
    done = cli("logs", "--tail", "10", "--since", "2026-01-01T00:00:00Z", "web")
    assert (done.status, done.out, done.error) == (0, "one\nthree\n", "two\n")
    assert fake.asked[-1].query == {"tail": "10", "since": "2026-01-01T00:00:00.000Z"}
    assert cli("logs", "-t", "--stdout", "web").out.startswith("T1 one\n")
    assert fake.asked[-1].query == {"timestamps": "1", "stderr": "0"}
    assert cli("logs", "--tail", "many", "web").status == 2


def test_an_error_within_a_stream(cli: Cli, fake: Fake) -> None:
    fake.answers[f"GET {NGINX}/logs"] = Lines([{"time": "", "stream": "stdout", "text": "one\n"}, {"error": {"kind": "unavailable", "message": "no more"}}])
    done = cli("logs", "web")
    assert (done.status, done.out, done.error) == (1, "one\n", "hyperctl: no more\n")


def test_the_first_of_several_containers_is_taken_and_named(cli: Cli, fake: Fake) -> None:
    fake.answers["GET /pods/web"] = {**WEB, "containers": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]}
    fake.answers["GET /containers/1/logs"] = Lines()
    assert "its first container, a" in cli("logs", "web").error
    fake.answers["GET /containers/web%2Fb"] = {"id": "2", "name": "b"}
    fake.answers["GET /containers/web%2Fb/logs"] = Lines()
    assert cli("logs", "web/b") == (0, "", "")


def test_events(cli: Cli, fake: Fake) -> None:
    event = {"time": "T", "type": "pod", "action": "start", "id": POD_ID, "name": "web", "attributes": {"a": "b"}}
    fake.answers["GET /events"] = Lines([event])
    assert cli("events", "--no-follow", "--filter", "type=pod").out == "T pod start web (a=b)\n"
    assert fake.asked[-1].query == {"filter": "type=pod"}
    assert json.loads(cli("events", "--format", "json").out) == event
    assert cli("events", "--format", "{{.Type}}/{{.Name}}").out == "pod/web\n"


# --- images ---


def progress(*rest: dict[str, Any]) -> Lines:
    return Lines([{"progress": {"what": "download", "digest": "sha256:1234", "done": n, "total": 2048}} for n in (0, 2048)] + list(rest))


def test_pull(cli: Cli, fake: Fake) -> None:
    fake.answers["POST /images/pull"] = progress({"image": IMAGE})
    done = cli("pull", "busybox")
    assert done.out == "busybox: busybox@sha256:cd\n" and done.error == "1234: downloading 2.00 KiB\n"
    assert fake.asked[-1].body == {"reference": "busybox", "policy": "always"}
    assert cli("pull", "-q", "busybox") == (0, "ab" * 6 + "\n", "")


def test_a_pull_that_fails_half_way(cli: Cli, fake: Fake) -> None:
    fake.answers["POST /images/pull"] = progress({"error": {"kind": "denied", "message": "401"}})
    done = cli("pull", "registry.example.org/a")
    assert done.status == 1 and "hyperctl login registry.example.org" in done.error


def test_load(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(os.urandom(300_000))
    fake.answers["POST /images/load"] = progress({"images": [IMAGE]})
    done = cli("load", "-i", str(archive), "--name", "x")
    assert done.out == "loaded docker.io/library/busybox:latest\n"
    assert fake.asked[-1].body == archive.read_bytes() and fake.asked[-1].query == {"name": "x"}
    fake.answers["POST /images/load"] = refusal(400, "invalid", "it is no archive")
    assert cli("load", "-i", str(archive)).error.endswith("hyperctl: it is no archive\n")
    assert cli("load", "-i", str(tmp_path)).status == 1
    assert cli("load", "-i", "/none").status == 1


def test_save(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    fake.answers["GET /images/save"] = b"x" * 100_000
    fake.answers["GET /images/busybox"] = IMAGE
    target = tmp_path / "b.tar"
    assert cli("save", "-o", str(target), "-f", "oci", "busybox").status == 0
    assert target.read_bytes() == b"x" * 100_000 and [p.name for p in tmp_path.glob("b.*")] == ["b.tar"]
    assert fake.asked[-1].query == {"names": "busybox", "format": "oci"}
    assert cli("save", "busybox").out == "x" * 100_000
    done = cli("save", "-o", str(tmp_path / "c.tar"), "gone")
    assert done.status == 1 and "hyperctl pull" in done.error and not list(tmp_path.glob("c.*"))


# --- passwords ---


def test_login_is_checked_and_kept_as_docker_does(cli: Cli, fake: Fake, home: Path) -> None:
    fake.answers["POST /auth"] = refusal(403, "denied", "wrong password")
    assert cli("login", "-u", "me", "-p", "pw", "r.example.org").status == 1
    config = home / ".docker/config.json"
    assert not config.exists()
    fake.answers["POST /auth"] = {}
    assert cli("login", "-u", "me", "-p", "p:w", "https://r.example.org/").status == 0
    assert json.loads(config.read_text()) == {"auths": {"r.example.org": {"auth": base64.b64encode(b"me:p:w").decode()}}}
    assert config.stat().st_mode & 0o777 == 0o600
    fake.answers["POST /images/pull"] = Lines([{"image": IMAGE}])
    cli("pull", "r.example.org/a")
    assert fake.asked[-1].body["credentials"] == {"username": "me", "password": "p:w"}
    cli("pull", "other.example.org/a")
    assert "credentials" not in fake.asked[-1].body
    assert "logged out" in cli("logout", "r.example.org").out and "not logged in" in cli("logout", "r.example.org").out


def test_a_credential_helper(cli: Cli, fake: Fake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = home / "docker-credential-test"
    helper.write_text('#!/bin/sh\ncat >$HOME/asked\necho \'{"Username": "<token>", "Secret": "s3"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text('{"credHelpers": {"r.example.org": "test"}, "credsStore": "absent"}')
    fake.answers["POST /images/push"] = Lines([{"digest": "sha256:1"}])
    assert cli("push", "-q", "r.example.org/a").out == "sha256:1\n"
    assert fake.asked[-1].body["credentials"] == {"identity_token": "s3"} and (home / "asked").read_text() == "r.example.org"
    assert "docker-credential-absent" in cli("push", "a").error
