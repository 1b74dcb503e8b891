"""Garbage and worse. PID 1 survives it, and nothing is left of it; that is checked after each test by the fixture."""

from __future__ import annotations

import contextlib
import copy
import random
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import guest_mux

from .client import (
    PORT_CONTROL,
    PORT_STREAM,
    TIMEOUT_S,
    AgentError,
    Control,
    Json,
    Refused,
    connect,
    encode,
    read_exactly,
    read_frame,
)
from .harness import Guest, oci_spec, wait_until
from .test_identity import ALLOW

SEED = 20251123


def closed(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


BAD_FRAMES = [
    struct.pack(">I", 0),
    struct.pack(">I", (4 << 20) + 1),
    b"\xff\xff\xff\xff",
    frame(b"no json"),
    frame(b"[]"),
    frame(b"7"),
    frame(b'"hello"'),
    frame(b"{} {}"),
    frame(b'{"a": "\xff"}'),
    frame(b'{"a": "\\u0000"}'),
    frame(b"{" * 3000),
    frame(b'{"a":' * 3000),
    frame(b'{"hello": 1}'),
    frame(b"GET / HTTP/1.1\r\n\r\n"),
]


@pytest.mark.parametrize("port", [PORT_CONTROL, PORT_STREAM])
@pytest.mark.parametrize("number", range(len(BAD_FRAMES)))
def test_bad_first_frame(guest: Guest, port: int, number: int) -> None:
    with connect(guest.socket_path, port) as sock:
        sock.sendall(BAD_FRAMES[number])
        assert closed(sock)


@pytest.mark.parametrize("number", range(len(BAD_FRAMES) - 2))
def test_bad_later_frame(guest: Guest, number: int) -> None:
    other = guest.connect()
    other.sock.sendall(BAD_FRAMES[number])
    assert closed(other.sock)
    other.close()


def test_random_bytes(guest: Guest) -> None:
    rng = random.Random(SEED)
    for _ in range(200):
        with connect(guest.socket_path, rng.choice([PORT_CONTROL, PORT_STREAM])) as sock, contextlib.suppress(OSError):
            sock.sendall(rng.randbytes(rng.randrange(1, 2000)))


def test_large_first_frame_is_refused_early(guest: Guest) -> None:
    """Nobody who has not said who he is gets memory."""
    with connect(guest.socket_path, PORT_CONTROL) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(struct.pack(">I", 4 << 20) + b" " * 100_000)
        assert closed(sock)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":1,"op":"sandbox","args":{"x":' + b"[" * 1000 + b"]" * 1000 + b"}}",
        b'{"id":1,"op":"sandbox","args":{"x":[' + b",".join([b"[]"] * 1_000_000) + b"]}}",
        b'{"id":1,"op":"sandbox","args":{"x":[' + b",".join([b"1"] * 200_000) + b"]}}",
    ],
    ids=["deep", "wide", "long"],
)
def test_json_that_is_too_much(guest: Guest, payload: bytes) -> None:
    """It would be a frame, but cost hundreds of megabytes to parse."""
    other = guest.connect()
    with contextlib.suppress(OSError):
        other.sock.sendall(frame(payload))
    assert closed(other.sock)
    other.close()


def test_largest_frame(guest: Guest) -> None:
    text = "x" * ((4 << 20) - 100)
    assert guest.control.call("sandbox", padding=text)["containers"] == []


@pytest.mark.parametrize(
    "message",
    [
        {"op": "sandbox"},
        {"id": -1, "op": "sandbox"},
        {"id": 1 << 54, "op": "sandbox"},
        {"id": 2**64 - 1, "op": "sandbox"},
        {"id": "1", "op": "sandbox"},
        {"id": 1.5, "op": "sandbox"},
    ],
)
def test_request_without_an_id(guest: Guest, message: Json) -> None:
    other = guest.connect()
    other.sock.sendall(encode(message))
    assert closed(other.sock)
    other.close()


@pytest.mark.parametrize(
    "message", [{"id": 1}, {"id": 1, "op": 7}, {"id": 1, "op": "sandbox", "args": []}, {"id": 1, "op": "x" * 100_000}]
)
def test_request_that_is_wrong(guest: Guest, message: Json) -> None:
    guest.control.sock.sendall(encode(message))
    assert read_frame(guest.control.sock)["error"]["kind"] in ("invalid", "unsupported")


def test_host_that_reads_no_replies(guest: Guest, build: Path) -> None:
    if build.name == "guest-plain":
        pytest.skip("it takes seconds")
    other = guest.connect()
    other.sock.settimeout(0.5)
    with contextlib.suppress(OSError):
        for i in range(200_000):
            other.sock.sendall(encode({"id": i, "op": "x" * 60}))
    assert guest.control.call("sandbox")["containers"] == []
    other.close()


def test_connections_above_the_limit(guest: Guest) -> None:
    with contextlib.ExitStack() as stack:
        opened = 0
        for _ in range(1100):
            try:
                stack.enter_context(connect(guest.socket_path, PORT_CONTROL))
                opened += 1
            except (OSError, Refused):
                continue
        assert 900 < opened < 1024
        assert guest.control.call("sandbox")["containers"] == []
    other = wait_for_connection(guest)
    other.close()


def wait_for_connection(guest: Guest) -> Control:
    found: list[Control] = []

    def attempt() -> bool:
        with contextlib.suppress(Exception):
            found.append(guest.connect())
        return bool(found)

    wait_until(attempt, "a connection to be accepted again")
    return found[0]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is in a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, child in value.items():
            found += leaves(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            found += leaves(child, (*path, index))
    return found


STRANGE: list[Any] = [
    None, True, False, 0, -1, 1 << 31, 1 << 32, 2**63 - 1, 2**64 - 1, 1e308,
    "", "/", ".", "..", "a" * 5000, "../" * 500, "\u00e9\U0001f600", "%s%n", "/proc/self/fd/3", "\n", "a\tb",
    "rbind", "SCMP_ACT_KILL", "CAP_SYS_ADMIN", [], [[]], {}, {"a": {}}, ["x"] * 300,
]  # fmt: skip


def mutate(rng: random.Random, value: Json) -> Json:
    mutant = copy.deepcopy(value)
    for _ in range(rng.randrange(1, 4)):
        path = rng.choice(leaves(mutant))
        parent: Any = mutant
        for step in path[:-1]:
            parent = parent[step]
        choice = rng.random()
        if choice < 0.15:
            del parent[path[-1]]
        elif choice < 0.3 and isinstance(parent, list):
            parent.insert(path[-1], copy.deepcopy(parent[path[-1]]))
        elif choice < 0.4 and isinstance(parent, dict):
            parent[rng.choice(["x", "", "path", "type", "container", "args"])] = parent.pop(path[-1])
        else:
            parent[path[-1]] = copy.deepcopy(rng.choice(STRANGE))
        if not mutant:
            break
    return mutant


def rich_spec() -> Json:
    """Something of everything, so that mutations reach all of it."""
    return oci_spec(
        "true",
        mounts=[
            {
                "destination": "/t",
                "type": "tmpfs",
                "source": "t",
                "options": ["size=1m", "tmpcopyup", "rprivate", "noexec"],
            }
        ],
        rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        user={"uid": 0, "gid": 0, "umask": 18, "additionalGids": [3]},
        oomScoreAdj=10,
        scheduler={"policy": "SCHED_OTHER", "nice": 1, "flags": []},
        ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 3},
        consoleSize={"height": 1, "width": 1},
        terminal=False,
        linux={
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
            "sysctl": {"kernel.shm_rmid_forced": "1"},
            "rootfsPropagation": "private",
            "personality": {"domain": "LINUX"},
            "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 1}},
            "resources": {
                "devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
                "unified": {},
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [
                    {
                        "names": ["kill"],
                        "action": "SCMP_ACT_ERRNO",
                        "args": [{"index": 1, "value": 9, "valueTwo": 1, "op": "SCMP_CMP_EQ"}],
                    }
                ],
            },
        },
    )


def test_mutated_creations(guest: Guest) -> None:
    """A thousand almost sensible requests. Whatever each does, the guest answers, lives and is clean afterwards."""
    rng = random.Random(SEED)
    template = {"container": "c", "oci": rich_spec()}
    refused = created = 0
    for _ in range(1000):
        args = mutate(rng, template)
        try:
            guest.control.call("create", **args)
            created += 1
        except AgentError:
            refused += 1
            continue
        container = args["container"]
        with contextlib.suppress(AgentError):
            guest.control.call("start", container=container)
        guest.control.call("delete", container=container)
    assert refused > 100
    assert created > 100


def heap_kib(guest: Guest) -> int:
    status = Path(f"/proc/{guest.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmData")).split()[1])


def test_memory_is_given_back(guest: Guest, build: Path) -> None:
    """PID 1 lives as long as its sandbox, so what it loses with a container adds up."""
    if build.name.endswith("san"):
        pytest.skip("the sanitizer keeps what was freed")
    bad = oci_spec("nonesuch", linux={"seccomp": ALLOW})

    def one_round() -> None:
        for _ in range(100):
            guest.shell("true")
            with contextlib.suppress(AgentError):
                guest.control.call("create", container="c", oci=bad)

    one_round()
    before = heap_kib(guest)
    one_round()
    one_round()
    assert heap_kib(guest) - before < 64


def test_mutated_requests(guest: Guest) -> None:
    rng = random.Random(SEED)
    template: Json = {
        **{"container": "c", "process": "init", "signal": 0, "rows": 1, "columns": 1, "all": False, "owner": False},
        **{"spec": oci_spec("true")["process"], "cgroup": ""},
    }
    ops = ["exec", "start", "signal", "resize", "processes", "state", "wait", "sandbox", "setup", "interfaces", "unplug", "park", "unpark", "nonesuch"]
    with guest.running("sleep", "100"):
        other = guest.connect()
        for _ in range(500):
            args = {key: value for key, value in mutate(rng, template).items() if isinstance(key, str)}
            request = other.send(rng.choice(ops), **args)
            # A wait is answered when the container ends.
            with contextlib.suppress(AgentError, TimeoutError):
                if other.has_reply(request, 0.05):
                    other.result(request)
        assert guest.control.call("sandbox")["containers"] == ["c"]
        other.close()


def test_mutated_setup(guest: Guest) -> None:
    rng = random.Random(SEED)
    template: Json = {
        "hostname": "h",
        "entropy": "00ff",
        "shares": [{"type": "9p", "tag": "x", "target": "/run/x", "options": ["msize=1"]}],
        "interfaces": [
            {
                "mac": "00:00:00:00:00:00",
                "name": "lo",
                "mtu": 1500,
                "up": True,
                "addresses": ["10.0.0.2/24", "fd00::2/64"],
            }
        ],
        "routes": [
            {"destination": "10.9.0.0/16", "gateway": "", "interface": "lo", "source": "", "scope": 0, "metric": 0},
            {"destination": "10.8.0.0/16", "type": "unicast", "table": 100, "hops": [{"interface": "lo", "weight": 2}, {"interface": "lo"}]},
        ],
        "rules": [{"family": 4, "priority": 9, "table": 100, "source": "10.9.0.0/16", "input": "lo", "mark": 1, "mask": 1}],
        "neighbours": [{"interface": "lo", "address": "10.0.0.1", "mac": "02:00:00:00:00:01"}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
    }
    del template["interfaces"]
    requests = [guest.control.send("setup", **mutate(rng, template)) for _ in range(60)]
    for request in requests:
        with contextlib.suppress(AgentError):
            guest.control.result(request)
    assert guest.control.call("sandbox")["containers"] == []


def data_of(link: socket.socket, channel: int, size: int) -> bytes:
    """The first bytes that come by a channel."""
    data = b""
    while len(data) < size:
        word, number, value = guest_mux.HEADER.unpack(read_exactly(link, guest_mux.HEADER.size))
        payload = read_exactly(link, value) if word >> 24 == guest_mux.DATA else b""
        data += payload if number == channel else b""
    return data


def test_a_channel_with_the_number_of_one_that_has_just_gone(guest: Guest) -> None:
    """The new one is not the old one's stream."""
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    stream = encode({"stream": {"secret": guest.secret, "container": "c", "process": "init", "name": "stdout"}})
    hello = encode({"hello": {"version": 1, "secret": guest.secret}})
    with guest.bare_link() as link:
        link.setblocking(True)
        link.settimeout(TIMEOUT_S)
        link.sendall(guest_mux.frame(guest_mux.HELLO, guest_mux.MAGIC, 1))
        link.sendall(
            guest_mux.frame(guest_mux.OPEN, 7, PORT_STREAM)
            + guest_mux.frame(guest_mux.DATA, 7, len(stream), stream)
            + guest_mux.frame(guest_mux.RESET, 7)
            + guest_mux.frame(guest_mux.OPEN, 7, PORT_CONTROL)
            + guest_mux.frame(guest_mux.DATA, 7, len(hello), hello)
        )
        assert data_of(link, 7, 12)[4:].startswith(b'{"hello"')
    guest.control.call("delete", container="c")


def test_storm_of_connections_and_deaths(guest: Guest) -> None:
    """Everything at once, ended in the middle."""
    rng = random.Random(SEED)
    for round_number in range(15):
        name = f"c{round_number}"
        other = guest.connect()
        other.send("create", container=name, oci=oci_spec("sh", "-c", "cat; exec sleep 100"))
        for op in rng.choices(["start", "wait", "state", "exec", "processes", "signal"], k=8):
            other.send(
                op,
                container=name,
                process="init",
                owner=rng.random() < 0.5,
                signal=rng.choice([9, 15]),
                spec=rich_spec()["process"],
            )
        if rng.random() < 0.5:
            with contextlib.suppress(AgentError):
                guest.stream(name, "init", "stdin").close()
        other.close()
    for name in guest.control.call("sandbox")["containers"]:
        with contextlib.suppress(AgentError):  # its creation may still fail, because its owner is gone
            guest.control.call("delete", container=name)
