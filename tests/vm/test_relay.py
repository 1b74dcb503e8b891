"""Connections from inside: sockets of the host in a container, and the resolver that Docker puts into its network namespace."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import json
import os
import secrets
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .client import build_client
from .harness import DEADLINE_S, Bundle, Runtime, new_id, wait_until
from .network.nets import in_namespace, ip

pytestmark = pytest.mark.vm

MIB = 1 << 20


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client(tmp_path_factory.mktemp("client"))


@pytest.fixture
def talker(bundle: Bundle, client: Path) -> Bundle:
    """A bundle with the client as /client."""
    (bundle.rootfs / "client").write_bytes(client.read_bytes())
    (bundle.rootfs / "client").chmod(0o755)
    return bundle


class _Handler(http.server.BaseHTTPRequestHandler):
    """GET gives noise, POST the sum of what was sent."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self._answer(self.server.data)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        self._answer(hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest().encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return

    def address_string(self) -> str:
        return "container"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 5


@contextlib.contextmanager
def http_server(path: Path, size: int = MIB) -> Iterator[bytes]:
    with _Server(str(path), _Handler) as server:
        server.data = os.urandom(size)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.data  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
    path.unlink()


GET = r"printf 'GET / HTTP/1.0\r\n\r\n' | /client stream {path} | sed '1,/^\r$/d' | sha256sum | cut -d' ' -f1"
POST = (
    r"{{ printf 'POST / HTTP/1.0\r\nContent-Length: 10485760\r\n\r\n'; cat /noise; }}"
    r" | /client stream {path} | sed '1,/^\r$/d'"
)


def relays(runv: Runtime) -> list[int]:
    """The pids of all relays on a state root."""
    return [int(path.read_text().split()[0]) for path in sorted(runv.root.rglob("relay.pid"))]


def test_an_http_server_on_a_socket(runv: Runtime, talker: Bundle, folder: Path) -> None:
    noise = os.urandom(10 * MIB)
    (talker.rootfs / "noise").write_bytes(noise)
    with http_server(folder / "api.sock", 10 * MIB) as data:
        os.chmod(folder / "api.sock", 0o660)
        os.chown(folder / "api.sock", 0, 1000)
        # By a link, as /var/run is one, and under another name.
        (folder / "link").symlink_to(folder)
        talker.mount("/run/srv/a.sock", f"{folder}/link/api.sock", "bind", "rbind", "ro")
        script = (
            "stat -c '%F %a %u %g' /run/srv/a.sock;"
            f"{GET.format(path='/run/srv/a.sock')}; {POST.format(path='/run/srv/a.sock')}; echo;"
            "for i in $(seq 20); do { echo hello | /client stream /run/srv/a.sock | head -c 4 | wc -c; } & done; wait"
        )
        lines = runv.run_bundle(talker.script(script), deadline_s=3 * DEADLINE_S).ok().lines
        assert lines[0] == "socket 660 0 1000"
        assert lines[1] == hashlib.sha256(data).hexdigest()
        assert lines[2] == hashlib.sha256(noise).hexdigest()
        assert len(lines) == 23


def test_only_who_may(runv: Runtime, talker: Bundle, folder: Path) -> None:
    with http_server(folder / "api.sock"):
        os.chmod(folder / "api.sock", 0o600)
        talker.mount("/a.sock", f"{folder}/api.sock", "bind", "bind")
        done = runv.run_bundle(
            talker.args("/client", "stream", "/a.sock", user={"uid": 1000, "gid": 1000}, capabilities={})
        )
        assert done.code == 1 and "Permission denied" in done.err


def test_sockets_in_a_shared_folder(runv: Runtime, talker: Bundle, folder: Path) -> None:
    shared = folder / "shared"
    (shared / "deep/er").mkdir(parents=True)
    (shared / "file").write_text("a file")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(shared / "stale.sock"))
    with http_server(shared / "one.sock") as one, http_server(shared / "deep/er/two.sock") as two:
        talker.mount("/run/shared", str(shared), "bind", "rbind", "rw")
        script = (
            f"{GET.format(path='/run/shared/one.sock')}; {GET.format(path='/run/shared/deep/er/two.sock')};"
            # What nobody listens at is the container's to replace.
            "cat /run/shared/file; rm /run/shared/stale.sock && echo ' removed'"
        )
        lines = runv.run_bundle(talker.script(script)).ok().lines
        assert lines == [*(hashlib.sha256(data).hexdigest() for data in (one, two)), "a file removed"]


def test_datagrams_and_seqpackets(runv: Runtime, talker: Bundle, folder: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
    ):
        notify.bind(str(folder / "notify"))
        notify.settimeout(DEADLINE_S)
        listener.bind(str(folder / "packets"))
        listener.listen()
        listener.settimeout(DEADLINE_S)
        talker.mount("/run/notify", f"{folder}/notify", "bind", "bind")
        talker.mount("/run/packets", f"{folder}/packets", "bind", "bind")
        talker.script("printf READY=1 | /client dgram /run/notify; printf question | /client seqpacket /run/packets")
        created = runv.create(talker)
        # runv has looked what kind of socket this is.
        listener.accept()[0].close()
        created.start()
        assert notify.recv(100) == b"READY=1"
        with listener.accept()[0] as link:
            assert link.recv(100) == b"question"
            link.send(b"answer")
        assert created.wait() == 0
        assert created.output() == b"answer"
        created.delete()


def test_the_relay_and_its_container(
    runv: Runtime, talker: Bundle, make_bundle: Callable[[], Bundle], folder: Path
) -> None:
    with http_server(folder / "api.sock") as data:
        talker.mount("/a.sock", f"{folder}/api.sock", "bind", "bind")
        first = runv.start(talker.args("sleep", "1000"))
        get = ["sh", "-c", GET.format(path="/a.sock")]
        assert first.exec(*get).out.strip() == hashlib.sha256(data).hexdigest()
        (relay,) = relays(runv)
        rollup = Path(f"/proc/{relay}/smaps_rollup").read_text()
        (pss,) = (int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        assert pss < 1024, f"{pss} KiB"
        groups = Path(f"/proc/{relay}/cgroup").read_text()
        assert groups == Path(f"/proc/{first.pid}/cgroup").read_text()

        # Another in the same machine has a relay of its own, and it goes with it.
        second = make_bundle()
        (second.rootfs / "client").write_bytes((talker.rootfs / "client").read_bytes())
        (second.rootfs / "client").chmod(0o755)
        second.mount("/b.sock", f"{folder}/api.sock", "bind", "bind")
        for namespace in second.linux["namespaces"]:
            if namespace["type"] in ("ipc", "network"):
                namespace["path"] = f"/proc/{first.pid}/ns/{namespace['type'].removesuffix('work')}"
        joined = runv.start(second.args("sleep", "1000"))
        assert len(list((runv.root / "@sandboxes").iterdir())) == 1
        assert len(relays(runv)) == 2
        assert joined.exec("sh", "-c", GET.format(path="/b.sock")).out.strip() == hashlib.sha256(data).hexdigest()
        joined.delete()
        assert relays(runv) == [relay]

        # Without its relay the container goes on, without the socket.
        os.kill(relay, signal.SIGKILL)
        wait_until(lambda: "refused" in first.exec("/client", "stream", "/a.sock").err, "the end of the relay")
        assert first.exec("echo", "alive").ok().out == "alive\n"
        first.delete()


def test_the_end_of_the_machine_is_the_end_of_the_relay(runv: Runtime, talker: Bundle, folder: Path) -> None:
    with http_server(folder / "api.sock"):
        talker.mount("/a.sock", f"{folder}/api.sock", "bind", "bind")
        created = runv.start(talker.args("sleep", "1000"))
        (relay,) = relays(runv)
        (qemu,) = runv.root.glob("@sandboxes/*/qemu.pid")
        os.kill(int(qemu.read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: Path(f"/proc/{relay}/stat").read_text().split()[2] == "Z", "the end of the relay")
        created.wait()
        created.delete()


def test_a_create_that_fails_leaves_no_relay(runv: Runtime, talker: Bundle, folder: Path) -> None:
    with http_server(folder / "api.sock"):
        talker.mount("/a.sock", f"{folder}/api.sock", "bind", "bind")
        done = runv.run_bundle(talker.args("/no/such/program"))
        assert done.code != 0 and "no such file or directory" in done.err
        assert relays(runv) == []


_RESOLVER = """
import json, socket, struct, threading
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.11", 0))
tcp = socket.create_server(("127.0.0.11", 0))
print(json.dumps([udp.getsockname()[1], tcp.getsockname()[1]]), flush=True)

def answer(query, how):
    end = query.index(0, 12) + 5
    name, kind = query[12:end - 4], struct.unpack(">H", query[end - 4:end - 2])[0]
    address = {b"udp": bytes([10, 99, 0, 1]), b"tcp": bytes([10, 99, 0, 2])}[how]
    records = [b"\\xc0\\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + address] if kind == 1 and b"db" in name else []
    flags = 0x8180 if b"db" in name else 0x8183
    return query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + query[12:end] + b"".join(records)

def serve_tcp():
    while True:
        with tcp.accept()[0] as link:
            size, = struct.unpack(">H", link.recv(2, socket.MSG_WAITALL))
            reply = answer(link.recv(size, socket.MSG_WAITALL), b"tcp")
            link.sendall(struct.pack(">H", len(reply)) + reply)

threading.Thread(target=serve_tcp, daemon=True).start()
while True:
    query, client = udp.recvfrom(512)
    udp.sendto(answer(query, b"udp"), client)
"""

# DNS over TCP, as a resolver asks when an answer was cut: the query for db, its length before it.
_TCP_QUERY = r"printf '\000\024\000\001\001\000\000\001\000\000\000\000\000\000\002db\000\000\001\000\001' | nc -w5 127.0.0.11 53 | od -An -tu1 | tr -d '\n' | grep -o '10  99   0   2'"


@pytest.fixture
def namespace(nothing_left: None) -> Iterator[str]:
    """An empty network namespace; its name."""
    name = f"rvdns{secrets.token_hex(3)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, timeout=20)


@contextlib.contextmanager
def resolver(namespace: str) -> Iterator[None]:
    """A resolver in the namespace, and the rules that lead to it, as dockerd makes them."""
    command = ["ip", "netns", "exec", namespace]
    with subprocess.Popen([*command, sys.executable, "-c", _RESOLVER], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline())
            for kind, port in zip(("udp", "tcp"), ports, strict=True):
                rule = f"-A OUTPUT -d 127.0.0.11/32 -p {kind} --dport 53 -j DNAT --to-destination 127.0.0.11:{port}"
                subprocess.run([*command, "iptables", "-t", "nat", *rule.split()], check=True, timeout=DEADLINE_S)
            yield
        finally:
            process.kill()


def test_dockers_resolver(runv: Runtime, bundle: Bundle, folder: Path, namespace: str) -> None:
    text = "nameserver 127.0.0.11\noptions ndots:0\n"
    (folder / "resolv.conf").write_text(text)
    bundle.mount("/etc/resolv.conf", f"{folder}/resolv.conf", "bind", "rbind", "rprivate")
    (bundle.rootfs / "etc/resolv.conf").touch()
    in_namespace(bundle, f"/run/netns/{namespace}")
    script = (
        "cat /etc/resolv.conf; nslookup db; ping -c1 -W1 db 2>&1 | head -1;"
        f"nslookup nonesuch 2>&1; {_TCP_QUERY};"
        # A resolver of the container's own finds the port free.
        "nc -l -p 53 & sleep 0.5; echo served | nc -w1 127.0.0.1 53; wait"
    )
    with resolver(namespace):
        output = runv.run_bundle(bundle.script(script)).out
    assert output.startswith(text)
    assert "10.99.0.1" in output, output
    assert "PING db (10.99.0.1)" in output
    assert "NXDOMAIN" in output
    assert "10  99   0   2" in output
    assert output.endswith("served\n")


def test_a_resolver_that_comes_before_the_start(runv: Runtime, bundle: Bundle, namespace: str) -> None:
    """As from Docker 26 on; and it serves whoever is in the sandbox until that ends."""
    in_namespace(bundle, f"/run/netns/{namespace}")
    created = runv.create(bundle.args("sleep", "1000"))
    assert relays(runv) == []
    with resolver(namespace):
        created.start()
        assert len(relays(runv)) == 1
        assert "10.99.0.1" in created.exec("nslookup", "db", "127.0.0.11").ok().out
    # With its resolver gone nobody answers, and all else goes on.
    assert created.exec("timeout", "5", "nslookup", "db", "127.0.0.11").code != 0
    assert len(relays(runv)) == 1
    created.delete()


@pytest.fixture
def systemd(folder: Path) -> Iterator[socket.socket]:
    """What systemd listens on for a service that says when it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(folder / "systemd"))
        link.settimeout(DEADLINE_S)
        yield link


_READY = (
    r"printf 'STATUS=warm\nMAINPID=1' | /client dgram $NOTIFY_SOCKET; sleep 1;"
    r"printf 'READY=1\nSTATUS=x' | /client dgram $NOTIFY_SOCKET;"
)


def test_ready_in_the_foreground(runv: Runtime, talker: Bundle, folder: Path, systemd: socket.socket) -> None:
    runtime = dataclasses.replace(runv, env={"NOTIFY_SOCKET": f"{folder}/systemd"})
    talker.script(f"{_READY} read line; exit 3")
    with runtime.popen("run", "--bundle", str(talker.path), new_id(), stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert [systemd.recv(100) for _ in range(2)] == [b"READY=1\n", b"MAINPID=%d\n" % process.pid]
        assert systemd.recv(100) == b"BARRIER=1"
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 3


def test_start_waits_for_ready(runv: Runtime, talker: Bundle, folder: Path, systemd: socket.socket) -> None:
    runtime = dataclasses.replace(runv, env={"NOTIFY_SOCKET": f"{folder}/systemd"})
    created = runtime.create(talker.script(f"{_READY} sleep 1000"))
    with runtime.popen("start", created.id) as start:
        assert [systemd.recv(100) for _ in range(2)] == [b"READY=1\n", b"MAINPID=%d\n" % created.pid]
        assert start.poll() is None
        assert systemd.recv(100) == b"BARRIER=1"
        assert start.wait(DEADLINE_S) == 0
    created.delete()


def test_a_container_that_ends_before_it_is_ready(
    runv: Runtime, talker: Bundle, folder: Path, systemd: socket.socket
) -> None:
    runtime = dataclasses.replace(runv, env={"NOTIFY_SOCKET": f"{folder}/systemd"})
    created = runtime.create(talker.script("echo $NOTIFY_SOCKET"))
    created.start()
    assert created.output() == b"/run/notify/notify.sock\n"
    created.wait()
    created.delete()
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(100)


def test_no_relay_where_none_is_needed(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    bundle.mount("/run/shared", str(folder), "bind", "rbind")
    created = runv.start(bundle.args("sleep", "1000"))
    assert relays(runv) == []
    created.delete()
