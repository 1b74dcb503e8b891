"""Registries: Debian's, with its ways of authorization, and one that does what it is told to do wrong."""

import base64
import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from .packing import Blobs, digest

START_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def docker_registry(
    folder: Path, auth: dict[str, Any] | None = None, command: Callable[..., list[str]] = lambda *words: list(words)
) -> Iterator[str]:
    """Debian's registry on loopback: ``host:port``. ``command``: runs something in another network namespace."""
    host = f"127.0.0.1:{free_port()}"
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "content")}},
        "http": {"addr": host},
        **({"auth": auth} if auth else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        arguments = command("docker-registry", "serve", str(folder / "config.yml"))
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        _wait_for(host, process, command)
        yield host
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(host: str, process: "subprocess.Popen[bytes]", command: Callable[..., list[str]]) -> None:
    name, _, port = host.partition(":")
    connect = command("bash", "-c", f"exec 3<>/dev/tcp/{name}/{port}")
    deadline = time.monotonic() + START_S
    while subprocess.run(connect, check=False, capture_output=True).returncode:
        assert process.poll() is None, "the registry ended"
        assert time.monotonic() < deadline, "the registry does not listen"
        time.sleep(0.02)


class Asked(NamedTuple):
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class Reply(NamedTuple):
    """``cut``: after how many bytes of the body the connection ends; ``stall``: or stands still instead. ``length``: what is said."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    cut: int | None = None
    stall: bool = False
    length: int | None = None


Answer = Callable[[Asked], Reply]


class Server:
    """Answers as a function says, and remembers what it was asked."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(self.command, self.path, dict(self.headers.items()), body)
                outer.asked.append(asked)
                outer.send(self, outer.answer(asked))

            do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):
            if handler.command != "HEAD":
                handler.wfile.write(reply.body[: reply.cut])
                handler.wfile.flush()
            if reply.stall:
                self.ended.wait(30)
            if reply.cut is not None:
                handler.close_connection = True

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def paths(self, part: str) -> list[Asked]:
        return [each for each in self.asked if part in each.path]


def serving(made: Blobs, *, ranges: bool = True) -> Answer:
    """A registry as it should be, with one image under every name and tag."""

    def answer(asked: Asked) -> Reply:
        path = urlsplit(asked.path).path
        if path == "/v2/":
            return Reply(b"{}")
        kind, _, name = path.rpartition("/")
        if kind.endswith("/manifests") and not name.startswith("sha256:"):
            name = digest(made.manifest)
        data = made.blobs.get(name)
        if data is None:
            return Reply(json.dumps({"errors": [{"code": "BLOB_UNKNOWN", "message": "no such thing"}]}).encode(), 404)
        headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"} if kind.endswith("/manifests") else {}
        start = asked.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        if start and ranges:
            rest = data[int(start) :]
            return Reply(rest, 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})
        return Reply(data, 200, headers)

    return answer


class Tokens:
    """A service that gives out tokens for Debian's registry, to ``user`` with ``password``."""

    def __init__(self, folder: Path, user: str, password: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign_own()
        self._basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.bundle = folder / "tokens.pem"
        folder.mkdir(parents=True, exist_ok=True)
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def _sign_own(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self._key.public_key())
        builder = (
            builder.serial_number(1)
            .not_valid_before(now - datetime.timedelta(1))
            .not_valid_after(now + datetime.timedelta(1))
        )
        return builder.sign(self._key, hashes.SHA256())

    def answer(self, asked: Asked) -> Reply:
        query = parse_qs(urlsplit(asked.path).query)
        known = asked.headers.get("Authorization") == self._basic
        if not known and "Authorization" in asked.headers:
            return Reply(b'{"details": "incorrect username or password"}', 401)
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if known else [each for each in actions.split(",") if each == "pull"]
            access.append(
                {"type": kind, "name": name, "actions": allowed if known or name.startswith("public/") else []}
            )
        return Reply(json.dumps({"token": self._token(query["service"][0], access)}).encode())

    def _token(self, service: str, access: list[dict[str, Any]]) -> str:
        certificate = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        now = int(time.time())
        claims = {
            "iss": "tokens",
            "sub": "",
            "aud": service,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": "1",
            "access": access,
        }
        text = ".".join(
            _base64(json.dumps(part).encode())
            for part in ({"typ": "JWT", "alg": "ES256", "x5c": [certificate]}, claims)
        )
        first, second = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_base64(first.to_bytes(32, 'big') + second.to_bytes(32, 'big'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Authority:
    """Makes certificates, its own among them: PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.certificate = self._write("ca", self._key, self._name, x509.BasicConstraints(ca=True, path_length=None))

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._write(name, key, subject, address)
        path = self._folder / f"{name}.key"
        form = serialization.PrivateFormat.PKCS8
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return certificate, path

    def _write(
        self, name: str, key: ec.EllipticCurvePrivateKey, subject: x509.Name, extension: x509.ExtensionType
    ) -> Path:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=False)
        builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        path = self._folder / f"{name}.crt"
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path
