"""Connections that begin in the guest: the guest's listeners, with the real relay at the other end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .client import PORT_STREAM, AgentError, Json, connect, encode, read_all, read_exactly, read_frame
from .harness import Guest, oci_spec, wait_until

MIB = 1 << 20


@dataclass
class Relay:
    """A relay that runs: where the guest listens, and what each listener was given as its target."""

    process: subprocess.Popen[bytes]
    paths: list[str]


def ask(guest: Guest, listeners: list[Json], secret: str = "") -> tuple[socket.socket, list[str]]:
    """The host's part up to the multiplexer."""
    assert guest.control
    link = connect(guest.socket_path, PORT_STREAM)
    try:
        link.sendall(encode({"relay": {"secret": secret or guest.secret}}))
        for _ in range(2):
            answer = read_frame(link)
            if "error" in answer:
                raise AgentError(answer["error"])
            if answer == {"relay": {}}:
                link.sendall(encode({"listeners": listeners}))
    except BaseException:
        link.close()
        raise
    return link, answer["listening"]["paths"]


@contextlib.contextmanager
def relay(guest: Guest, *targets: str, **members: object) -> Iterator[Relay]:
    """Listeners that fit the targets, and the relay between them."""
    listeners: list[Json] = []
    for target in targets:
        kind, _, rest = target.partition(":")
        listeners.append({"type": kind, **members})
        if kind in ("tcp", "udp"):
            address, _, port = rest.partition(":")
            listeners[-1] = {"type": kind, "address": address, "port": int(port)}
    link, paths = ask(guest, listeners)
    program = guest.bridge_program.parent / "runv-relay"
    with link:
        process = subprocess.Popen(
            [program, "--link-fd", str(link.fileno()), *targets],
            pass_fds=[link.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=(log := open(guest.directory / "relay.log", "wb")),
            env={"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"},
        )
    try:
        yield Relay(process, paths)
    finally:
        died = process.poll()
        process.kill()
        process.wait()
        log.close()
        assert died in (None, 0), (guest.directory / "relay.log").read_text()


def inside(guest: Guest, path: str) -> str:
    """A path of the guest as this process can reach it."""
    return f"/proc/{guest.pid}/root{path}"


def unix(kind: int, path: str) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, kind)
    link.settimeout(20)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        link.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)
    return link


def ended(path: str) -> bool:
    """Whether a new connection is closed without a byte."""
    with unix(socket.SOCK_STREAM, path) as link:
        try:
            link.sendall(b"x")
            return link.recv(10) == b""
        except (ConnectionResetError, BrokenPipeError):
            return True


@contextlib.contextmanager
def service(path: Path, answer: Callable[[socket.socket], None], kind: int = socket.SOCK_STREAM) -> Iterator[None]:
    """A service of the host: each connection is answered in a thread of its own."""
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(str(path))
        listener.listen(4)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = listener.accept()
                    threading.Thread(target=answer, args=(link,), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            path.unlink()


def echo_at_the_end(link: socket.socket) -> None:
    """Answers when the client has ended its half: what it said, turned around."""
    with link:
        link.sendall(read_all(link)[::-1])


def test_a_stream_in_both_directions_with_half_close(guest: Guest, tmp_path: Path) -> None:
    with service(tmp_path / "s", echo_at_the_end), relay(guest, f"stream:{tmp_path}/s") as it:
        for size in (0, 1, 10 * MIB):
            data = os.urandom(size)
            with unix(socket.SOCK_STREAM, inside(guest, it.paths[0])) as link:
                sender = threading.Thread(
                    target=lambda link=link, data=data: (link.sendall(data), link.shutdown(socket.SHUT_WR))
                )
                sender.start()
                assert read_all(link) == data[::-1]
                sender.join()


def test_what_it_looks_like(guest: Guest, tmp_path: Path) -> None:
    with (
        service(tmp_path / "s", echo_at_the_end),
        relay(guest, f"stream:{tmp_path}/s", mode=0o640, uid=12, gid=34) as it,
    ):
        status = os.stat(inside(guest, it.paths[0]))
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 12, 34)


@pytest.mark.parametrize("user", [False, True], ids=["", "user namespace"])
def test_mounted_into_a_container(guest: Guest, tmp_path: Path, user: bool) -> None:
    """Its root may be nobody to the guest, and must find the socket all the same."""
    names = ("pid", "mount", "ipc", "uts", "cgroup", *(["user"] if user else []))
    maps = {f"{kind}Mappings": [{"containerID": 0, "hostID": 100000, "size": 65536}] for kind in ("uid", "gid")}
    if user:
        for path in [guest.rootfs, *guest.rootfs.rglob("*")]:
            os.chown(path, 100000, 100000, follow_symlinks=False)
    with service(tmp_path / "s", echo_at_the_end), relay(guest, f"stream:{tmp_path}/s", uid=100000, gid=100000) as it:
        oci = oci_spec(
            *("sleep", "100"),
            namespaces=[{"type": name} for name in names],
            linux=maps if user else {},
            mounts=[{"destination": "/run/x/y.sock", "source": it.paths[0], "options": ["bind", "ro"]}],
        )
        oci["mounts"] = [mount for mount in oci["mounts"] if mount.get("type") != "sysfs"]
        guest.control.call("create", container="c", oci=oci)
        guest.control.call("start", container="c")
        owner = guest.exec("c", "stat", "-c", "%F %u", "/run/x/y.sock").text
        assert owner == f"socket {0 if user else 100000}\n"
        guest.control.call("delete", container="c")


def test_more_connections_than_the_service_takes_at_once(guest: Guest, tmp_path: Path) -> None:
    """Its queue has 4 places: as on the host itself, the others wait."""
    path = tmp_path / "s"
    count = 50
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(4)
        with relay(guest, f"stream:{path}") as it:
            links = [unix(socket.SOCK_STREAM, inside(guest, it.paths[0])) for _ in range(count)]
            for number, link in enumerate(links):
                link.sendall(b"%02d" % number)
            time.sleep(0.2)
            seen = set()
            listener.settimeout(20)
            for _ in range(count):
                with listener.accept()[0] as served:
                    seen.add(int(read_exactly(served, 2)))
                    served.sendall(b"ok")
            assert seen == set(range(count))
            for link in links:
                with link:
                    assert read_all(link) == b"ok"


def test_a_service_that_is_started_anew(guest: Guest, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with service(path, echo_at_the_end):
        running = relay(guest, f"stream:{path}")
        it = running.__enter__()
    try:
        assert ended(inside(guest, it.paths[0])), "nobody is there"
        with service(path, echo_at_the_end), unix(socket.SOCK_STREAM, inside(guest, it.paths[0])) as link:
            link.sendall(b"again")
            link.shutdown(socket.SHUT_WR)
            assert read_all(link) == b"niaga"
    finally:
        running.__exit__(None, None, None)


def test_no_link_is_followed(guest: Guest, tmp_path: Path) -> None:
    """A guest that may write to a shared folder must not reach another socket of the host by it."""
    (tmp_path / "folder").mkdir()
    folder = tmp_path / "folder"
    with (
        service(tmp_path / "secret", echo_at_the_end),
        service(folder / "s", echo_at_the_end),
        relay(guest, f"stream:{folder}/s") as it,
    ):
        os.rename(folder / "s", folder / "t")
        os.symlink(tmp_path / "secret", folder / "s")
        assert ended(inside(guest, it.paths[0]))
        os.unlink(folder / "s")
        os.rename(folder / "t", folder / "s")


def test_seqpackets_keep_their_borders(guest: Guest, tmp_path: Path) -> None:
    def echo(link: socket.socket) -> None:
        with link:
            while data := link.recv(1 << 17):
                link.send(data[::-1])
            link.send(b"end")

    with (
        service(tmp_path / "s", echo, socket.SOCK_SEQPACKET),
        relay(guest, f"seqpacket:{tmp_path}/s") as it,
        unix(socket.SOCK_SEQPACKET, inside(guest, it.paths[0])) as link,
    ):
        packets = [os.urandom(size) for size in (1, 2, 1000, 65535, 3)]
        for packet in packets:
            link.send(packet)
        assert [link.recv(1 << 17) for _ in packets] == [packet[::-1] for packet in packets]
        link.shutdown(socket.SHUT_WR)
        assert link.recv(10) == b"end"
        assert link.recv(10) == b""


def test_datagrams_arrive_in_order_even_at_a_slow_service(guest: Guest, tmp_path: Path) -> None:
    """As sd_notify's: nothing is lost where the sender waits, and a service that was started anew gets the next."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(20)
        with relay(guest, f"dgram:{path}") as it, unix(socket.SOCK_DGRAM, inside(guest, it.paths[0])) as link:
            sender = threading.Thread(target=lambda: [link.send(b"%d" % number * 100) for number in range(300)])
            sender.start()
            time.sleep(0.3)
            assert [receiver.recv(1000) for _ in range(300)] == [b"%d" % number * 100 for number in range(300)]
            sender.join()
            path.unlink()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
                second.bind(str(path))
                second.settimeout(20)
                link.send(b"READY=1")
                assert second.recv(1000) == b"READY=1"


def in_guest(guest: Guest, script: str) -> str:
    done = subprocess.run(
        ["nsenter", "-t", str(guest.pid), "-n", "sh", "-c", f"echo $$ > {guest._cgroup}/cgroup.procs; {script}"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout


@pytest.fixture
def resolver() -> Iterator[str]:
    """Two servers on one free port of this host's loopback: UDP and TCP; both answer with the question turned around."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))

        def answer_tcp() -> None:
            with contextlib.suppress(OSError):
                while True:
                    echo_at_the_end(tcp.accept()[0])

        def answer_udp() -> None:
            while (found := udp.recvfrom(65535))[0] != b"stop":
                udp.sendto(found[0][::-1], found[1])

        threads = [threading.Thread(target=answer_tcp), threading.Thread(target=answer_udp)]
        for thread in threads:
            thread.start()
        yield f"127.0.0.1:{port}"
        tcp.shutdown(socket.SHUT_RDWR)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"stop", ("127.0.0.1", port))
        for thread in threads:
            thread.join()


CLIENT = """
import socket, sys
address = ("127.0.0.1", {port})
for connected in (True, False):
    links = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(300)]
    for number, link in enumerate(links):
        link.settimeout(10)
        data = b"<%d>" % number
        if connected:
            link.connect(address)
            link.send(data)
        else:
            link.sendto(data, address)
        assert link.recvfrom(100) == (data[::-1], address)
    link.sendto(b"x" * 60000, address)
    assert len(link.recv(65535)) == 60000
# As Java does it: a socket of IPv6 for both, and addresses in their mapped form.
mapped = ("::ffff:127.0.0.1", {port})
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as link:
    link.settimeout(10)
    link.sendto(b"abc", mapped)
    assert link.recvfrom(100)[1][:2] == mapped
    link.connect(mapped)
    link.send(b"def")
    assert link.recvfrom(100)[:1] == (b"fed",)
with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as link:
    link.connect(mapped)
    link.sendall(b"xyz")
    link.shutdown(socket.SHUT_WR)
    assert link.recv(100) == b"zyx"
with socket.create_connection(address, 10) as link:
    link.sendall(b"over TCP")
    link.shutdown(socket.SHUT_WR)
    print(link.recv(100).decode())
# The port itself is everybody's.
socket.create_server(("0.0.0.0", {port})).close()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
    link.bind(("0.0.0.0", {port}))
print("done")
"""


def test_an_address_of_the_loopback(guest: Guest, resolver: str, tmp_path: Path) -> None:
    guest.control.call("setup")
    client = tmp_path / "client.py"
    client.write_text(CLIENT.format(port=resolver.partition(":")[2]))
    with relay(guest, f"udp:{resolver}", f"tcp:{resolver}") as it:
        assert it.paths == ["", ""]
        assert in_guest(guest, f"python3 {client}") == "PCT revo\ndone\n"
    refused = (
        f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {resolver.partition(':')[2]}), 5)' 2>&1"
    )
    wait_until(lambda: "ConnectionRefusedError" in in_guest(guest, refused), "the end of the listener")


def test_the_end_of_a_relay_is_the_end_of_its_listeners(guest: Guest, tmp_path: Path) -> None:
    with service(tmp_path / "s", echo_at_the_end), relay(guest, f"stream:{tmp_path}/s") as it:
        path = inside(guest, it.paths[0])
        link = unix(socket.SOCK_STREAM, path)
        assert os.path.exists(path)
    assert link.recv(10) == b""
    link.close()
    wait_until(lambda: not os.path.exists(os.path.dirname(path)), "the listeners to be gone")


def test_the_end_of_the_guests_process_is_the_end_of_the_relay(guest: Guest, tmp_path: Path) -> None:
    with relay(guest, f"stream:{tmp_path}/s") as it:
        (process,) = guest.children()
        os.kill(process, 9)
        assert it.process.wait(20) == 0


def test_several_at_once(guest: Guest, tmp_path: Path) -> None:
    with service(tmp_path / "s", echo_at_the_end), contextlib.ExitStack() as stack:
        relays = [stack.enter_context(relay(guest, f"stream:{tmp_path}/s")) for _ in range(5)]
        assert len({it.paths[0] for it in relays}) == 5
        for it in relays:
            with unix(socket.SOCK_STREAM, inside(guest, it.paths[0])) as link:
                link.sendall(b"abc")
                link.shutdown(socket.SHUT_WR)
                assert read_all(link) == b"cba"


BAD = {
    "no listeners": ([], "listeners must have 1 to 256 entries"),
    "too many": ([{"type": "stream"}] * 257, "listeners must have 1 to 256 entries"),
    "no type": ([{}], "listeners[0].type is missing"),
    "unknown type": ([{"type": "raw"}], "listeners[0].type must be stream, seqpacket, dgram, tcp or udp"),
    "mode": ([{"type": "stream", "mode": 0o10000}], "listeners[0].mode"),
    "no address": ([{"type": "udp", "port": 53}], "listeners[0].address is missing"),
    "bad address": ([{"type": "udp", "address": "::1", "port": 53}], "listeners[0].address is not an address of IPv4"),
    "no port": ([{"type": "tcp", "address": "127.0.0.11"}], "listeners[0].port is missing"),
}


@pytest.mark.parametrize(("listeners", "message"), BAD.values(), ids=BAD.keys())
def test_bad_requests(guest: Guest, listeners: list[Json], message: str) -> None:
    with pytest.raises(AgentError, match=message.replace("[", r"\[").replace("]", r"\]")):
        ask(guest, listeners)


def test_the_secret_is_asked_for(guest: Guest) -> None:
    with pytest.raises(AgentError, match="denied"):
        ask(guest, [{"type": "stream"}], secret="0" * 64)


@pytest.mark.parametrize(
    "data", [b"\0\0\0\0", b"\xff" * 100, b"\0\0\0\x02no", encode({"listeners": []}) * 2], ids=range(4)
)
def test_noise_instead_of_listeners(guest: Guest, data: bytes) -> None:
    assert guest.control
    link = connect(guest.socket_path, PORT_STREAM)
    with link:
        link.sendall(encode({"relay": {"secret": guest.secret}}))
        assert read_frame(link) == {"relay": {}}
        link.sendall(data)
        assert link.recv(1) == b""
    wait_until(lambda: guest.children() == [], "the end of the relay")
