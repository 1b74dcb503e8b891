"""Who gets in: on the socket by what the kernel says of them, on TCP by certificate; and how the daemon comes by its sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperd import certificates, config, systemd
from hyperd.config import Api, Tls
from hyperd.errors import ConflictError, InvalidError, UnavailableError

from .harness import Site, serve

NOBODY = 65534
GROUP = 54321
_CLIENT = """
import os, socket, sys
path, uid, gid, groups = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(one) for one in sys.argv[4:]]
os.setgroups(groups)
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
one = socket.socket(socket.AF_UNIX)
try:
    one.connect(path)
except PermissionError:
    print("refused")
else:
    one.sendall(b"GET /v1/version HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    print(one.makefile("rb").readline().decode().split()[1])
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


def ask_as(path: str, uid: int, gid: int, *groups: int) -> str:
    arguments = [str(one) for one in (uid, gid, *groups)]
    done = subprocess.run([sys.executable, "-c", _CLIENT, path, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@as_root
def test_root_and_the_group_get_in_and_others_do_not(tmp_path: Path) -> None:
    for folder in (tmp_path, *list(tmp_path.parents)[:-1]):
        folder.chmod(folder.stat().st_mode | 0o011)

    async def work(site: Site) -> None:
        path = site.services.config.api.socket
        assert os.stat(path).st_gid == GROUP and os.stat(path).st_mode & 0o777 == 0o660
        assert await asyncio.to_thread(ask_as, path, 0, 0) == "200"
        assert await asyncio.to_thread(ask_as, path, NOBODY, GROUP) == "200"
        assert await asyncio.to_thread(ask_as, path, NOBODY, NOBODY, GROUP) == "200"
        assert await asyncio.to_thread(ask_as, path, NOBODY, NOBODY) == "refused"
        os.chmod(path, 0o666)  # as somebody may who does not know what it means
        assert await asyncio.to_thread(ask_as, path, NOBODY, NOBODY) == "403"

    serve(tmp_path, work, Api(group=str(GROUP)))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    certificates.make_authority(folder)
    certificates.issue(folder, "server", "server", ("127.0.0.1", "localhost"))
    certificates.issue(folder, "client", "client")
    other = folder / "other"
    certificates.make_authority(other)
    certificates.issue(other, "client", "client")
    return folder


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def tls_api(tls: Path) -> Api:
    files = Tls(certificate=str(tls / "server.pem"), key=str(tls / "server-key.pem"), authority=str(tls / "ca.pem"))
    return Api(listen=f"127.0.0.1:{free_port()}", tls=files)


def ask_tls(api: Api, authority: Path, client: Path | None) -> int:
    context = ssl.create_default_context(cafile=authority / "ca.pem")
    if client is not None:
        context.load_cert_chain(client / "client.pem", client / "client-key.pem")
    connection = http.client.HTTPSConnection(api.listen, context=context, timeout=10)
    try:
        connection.request("GET", "/v1/version")
        return connection.getresponse().status
    finally:
        connection.close()


def test_on_tcp_both_sides_show_a_certificate(tmp_path: Path, tls: Path) -> None:
    api = tls_api(tls)

    async def work(site: Site) -> None:
        assert await asyncio.to_thread(ask_tls, api, tls, tls) == 200
        for client in (None, tls / "other"):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
                await asyncio.to_thread(ask_tls, api, tls, client)
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(ask_tls, api, tls / "other", tls)
        with pytest.raises((OSError, http.client.HTTPException)):
            await asyncio.to_thread(_ask_plain, api.listen)

    serve(tmp_path, work, api)


def _ask_plain(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/v1/version")
    assert connection.getresponse().status != 200


def test_keys_are_for_their_owner_alone(tls: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in tls.glob("*.pem")}
    assert {name: mode for name, mode in modes.items() if "key" in name} == dict.fromkeys(
        ("ca-key.pem", "server-key.pem", "client-key.pem"), 0o600
    )


def test_certificates_are_not_made_twice(tls: Path) -> None:
    with pytest.raises(ConflictError):
        certificates.make_authority(tls)
    with pytest.raises(ConflictError):
        certificates.issue(tls, "client", "client")
    with pytest.raises(InvalidError):
        certificates.issue(tls, "client", "../x")
    for host in ("a b", "", "-x", "a..b"):
        with pytest.raises(InvalidError, match="not a host"):
            certificates.issue(tls, "server", "other", (host,))
    with pytest.raises(UnavailableError, match="cert init"):
        try:
            certificates.issue(tls / "none", "client", "x")
        except UnavailableError as error:
            raise UnavailableError(error.hint) from error


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nonesuch": 1}, "nonesuch"),
        ({"root": "relative"}, "root must be an absolute path"),
        ({"restart": {"base_s": 0}}, "restart.base_s"),
        ({"restart": {"base_s": 10, "limit_s": 5}}, "limit_s must not be less"),
        ({"log_level": "loud"}, "log_level"),
        ({"api": {"listen": "127.0.0.1:1"}}, "needs api.tls"),
        ({"api": {"listen": "0.0.0.0:1", "plain_loopback": True}}, "only a loopback address"),
        ({"api": {"listen": "nowhere"}}, "HOST:PORT"),
        ({"api": {"tls": {"key": "/x"}}}, "certificate, key and authority"),
        ({"network": {"subnet": "10.0.0.0/99"}}, "network.subnet"),
        ({"network": {"pool": "10.0.0.1/8"}}, "network.pool"),
        ({"network": {"resolvers": ["one.example"]}}, "network.resolvers"),
        ({"network": {"bridge": "a-name-that-is-too-long"}}, "network.bridge"),
        ({"network": {"mark": 3}}, "one bit, as 0x100000, and not 0x3"),
        ({"machines": {"vcpus_max": 1000}}, "machines.vcpus_max"),
    ],
)
def test_settings_that_cannot_be(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        config.parse(data, "the file")


def test_what_the_settings_name_is_looked_at(tls: Path) -> None:
    def checked(data: dict[str, Any]) -> list[str]:
        return config.check_host(config.parse(data, "the file"), "the file")

    paths = {"certificate": f"{tls}/server.pem", "key": f"{tls}/server-key.pem", "authority": f"{tls}/ca.pem"}
    assert checked({"api": {"tls": paths, "group": "root"}}) == []
    assert "groupadd --system nonesuch" in checked({"api": {"group": "nonesuch"}})[0]
    for wrong, message in (
        ({"api": {"tls": paths | {"key": f"{tls}/none.pem"}}}, "No such file or directory"),
        ({"api": {"tls": paths | {"key": f"{tls}/client-key.pem"}}}, "api.tls"),
        ({"runv": "/none/runv"}, "runv: there is no program /none/runv"),
    ):
        with pytest.raises(InvalidError, match=message):
            checked(wrong)


def test_settings_are_shown_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('root = "/r"\n[api]\nlisten = "[::1]:7"\nplain_loopback = true\n[images.mirrors]\n"docker.io" = ["a", "b"]\n')
    read = config.load(str(path))
    path.write_text(config.as_toml(read))
    assert config.load(str(path)) == read and read.images.mirrors == {"docker.io": ("a", "b")}


_ACTIVATED = """
import os, socket, sys
path, notify, folder = sys.argv[1:]
one = socket.socket(socket.AF_UNIX)
one.bind(path)
one.listen()
os.dup2(one.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "NOTIFY_SOCKET": notify}
os.execv(sys.executable, [sys.executable, "-m", "hyperd", "--config", f"{folder}/c.toml"])
"""


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[tuple[str, socket.socket, subprocess.Popen[bytes]]]:
    (tmp_path / "c.toml").write_text(
        f'root = "{tmp_path}/root"\nstate = "{tmp_path}/run"\napi = {{socket = "{tmp_path}/unused"}}\nnetwork = {{enabled = false}}\n'
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(60)
        arguments = [str(tmp_path / "s"), str(tmp_path / "notify"), str(tmp_path)]
        process = subprocess.Popen(
            [sys.executable, "-c", _ACTIVATED, *arguments], cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL
        )
        yield arguments[0], notify, process
        process.kill()
        process.wait()


def test_systemd_gives_the_socket_and_hears_when_we_are_ready(
    activated: tuple[str, socket.socket, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    path, notify, process = activated
    assert notify.recv(100) == b"READY=1"
    assert ask_as(path, os.getuid(), os.getgid()) == "200"
    assert not (tmp_path / "unused").exists()
    process.terminate()
    assert notify.recv(100) == b"STOPPING=1"
    assert process.wait(60) == 0


def test_nobody_that_we_start_tells_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """runv would wait until its container says that it is ready."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    assert systemd.notify_socket() == "/run/x" and "NOTIFY_SOCKET" not in os.environ
    assert systemd.notify_socket() == ""


def test_two_daemons_do_not_share_folders(
    activated: tuple[str, socket.socket, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    _, notify, _ = activated
    assert notify.recv(100) == b"READY=1"
    second = subprocess.run(
        [sys.executable, "-m", "hyperd", "--config", f"{tmp_path}/c.toml"],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == 1 and "another daemon uses" in second.stderr


def test_the_log_is_lines_of_json() -> None:
    program = (
        "import logging; from hyperd import journal; journal.set_up('info')\n"
        "logging.getLogger('x').warning('a %s', 'b\\n', extra={'id': 1})\n"
        "try: 1 / 0\nexcept ZeroDivisionError: logging.getLogger('x').exception('e')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    first, second = (json.loads(line) for line in done.stderr.splitlines())
    assert (first["message"], first["level"], first["id"]) == ("a b\n", "warning", 1)
    assert "ZeroDivisionError" in second["trace"] and abs(time.time() - time.mktime(time.strptime(first["time"][:19], "%Y-%m-%dT%H:%M:%S"))) < 86400
