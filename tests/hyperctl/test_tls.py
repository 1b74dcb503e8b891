"""TCP with certificates on both sides: requests, streams, and what is said when one of them is wrong."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperd import certificates
from tests.hyperctl.conftest import CONTAINER_ID, WEB, Cli
from tests.hyperctl.fake import Fake, exits

NGINX = f"/containers/{CONTAINER_ID}"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    certificates.make_authority(folder, "test")
    certificates.issue(folder, "server", "server", ("localhost", "127.0.0.1"))
    certificates.issue(folder, "client", "client")
    certificates.make_authority(folder / "other", "other")
    certificates.issue(folder / "other", "client", "client")
    return folder


@pytest.fixture
def remote(home: Path, tls: Path) -> Iterator[Fake]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tls / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls / "server.pem", tls / "server-key.pem")
    with Fake(home, tls=context) as running:
        running.answers["GET /pods/web"] = WEB
        yield running


def options(fake: Fake, tls: Path, *, host: str = "localhost", own: Path | None = None, authority: Path | None = None) -> list[str]:
    mine = own or tls
    argv = ["-H", f"tcp://{host}:{fake.port}", "--tlscacert", str((authority or tls) / "ca.pem")]
    return [*argv, "--tlscert", str(mine / "client.pem"), "--tlskey", str(mine / "client-key.pem")]


def test_requests_and_streams(cli: Cli, remote: Fake, tls: Path) -> None:
    for host in ("localhost", "127.0.0.1"):
        assert cli(*options(remote, tls, host=host), "inspect", "--format", "{{.Name}}", "web") == (0, "web\n", "")
    remote.answers[f"POST {NGINX}/exec"] = {"id": "e1"}
    remote.streams["/execs/e1/attach"] = exits(7, b"x" * 300_000, b"err")
    assert cli(*options(remote, tls), "exec", "web", "ls") == (7, "x" * 300_000, "err")


def test_a_daemon_of_another_authority(cli: Cli, remote: Fake, tls: Path) -> None:
    done = cli(*options(remote, tls, authority=tls / "other"), "list")
    assert done.status == 1 and "cannot speak TLS" in done.error and "certificate" in done.error and not remote.asked


def test_a_daemon_by_a_name_that_it_has_not(cli: Cli, remote: Fake, tls: Path) -> None:
    done = cli(*options(remote, tls, host="127.0.0.2"), "list")
    assert done.status == 1 and "127.0.0.2" in done.error and not remote.asked


def test_a_client_of_another_authority(cli: Cli, remote: Fake, tls: Path) -> None:
    done = cli(*options(remote, tls, own=tls / "other"), "list")
    assert done.status == 1 and "Traceback" not in done.error and "internal" not in done.error and not remote.asked


def test_certificates_that_are_not_there(cli: Cli, remote: Fake, tls: Path) -> None:
    done = cli(*options(remote, tls, own=tls / "none"), "list")
    assert done.status == 1 and "cannot load certificates" in done.error and "No such file" in done.error
