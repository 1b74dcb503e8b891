"""runv-bridge and with it guest/wire/mux.c, spoken to from both sides."""

import hashlib
import os
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.guest_mux import DATA, DATA_MAX, EOF, HELLO, MAGIC, OPEN, RESET, WINDOW, Channel, GuestMux, frame
from tests.guest_build import Kind
from tests.host_c.bridge import Bridge, read_all, read_exactly, read_line, running_bridge
from tests.host_c.process import assert_idle, open_files, wait_until


@pytest.fixture
def bridge(programs: Path) -> Iterator[Bridge]:
    with running_bridge(programs) as running:
        yield running


@pytest.fixture
def megabytes(kind: Kind) -> int:
    return 100 if kind == "plain" else 10


def gone(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_bytes_behind_the_line_are_not_lost(bridge: Bridge) -> None:
    with bridge.dial(b"CONNECT 1025\nearly") as client:
        channel = bridge.guest.accept()
        assert channel.port == 1025
        assert channel.recv(100) == b"early"
        assert read_line(client) == f"OK {channel.number}\n".encode()
        channel.send(b"answer")
        assert client.recv(100) == b"answer"


def test_line_in_pieces(bridge: Bridge) -> None:
    with bridge.dial(b"") as client:
        for byte in b"CONNECT 4294967295\n":
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        assert bridge.guest.accept().port == 4294967295
        assert read_line(client).startswith(b"OK ")


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"CONNECT\n",
        b"CONNECT \n",
        b"connect 1024\n",
        b"CONNECT 4294967296\n",
        b"CONNECT 99999999999999999999\n",
        b"CONNECT -1\n",
        b"CONNECT +1\n",
        b"CONNECT  1\n",
        b"CONNECT 1024\r\n",
        b"CONNECT 1024\0\n",
        b"CONNECT 1" + b" " * 30,
        bytes(range(32)),
        b"x" * 5000,
    ],
)
def test_bad_line_is_refused(bridge: Bridge, line: bytes) -> None:
    with bridge.dial(line) as client:
        assert gone(client)
    client, _ = bridge.open()
    client.close()


def test_client_that_never_asks(bridge: Bridge, kind: Kind) -> None:
    if kind == "plain":
        pytest.skip("it takes seconds")
    begin = time.monotonic()
    with bridge.dial(b"CONN") as client:
        assert gone(client)
    assert 9 < time.monotonic() - begin < 15


def test_refused_port(bridge: Bridge) -> None:
    bridge.guest.refused.add(7)
    with bridge.dial(b"CONNECT 7\nmore") as client:
        assert gone(client)


def test_clients_that_come_before_the_guest(programs: Path) -> None:
    with running_bridge(programs, greet=False) as bridge:
        bridge.guest.wait_hello(1)
        with bridge.dial() as first, bridge.dial(b"CONNECT 1\n") as gives_up, bridge.dial(b"CONNECT 2\n") as last:
            gives_up.close()
            assert_idle(bridge.process.pid)
            bridge.guest.send(frame(HELLO, MAGIC, 1))
            assert [bridge.guest.accept().port for _ in range(2)] == [1024, 2]
            assert read_line(first).startswith(b"OK ") and read_line(last).startswith(b"OK ")


def pump_out(send: Callable[[bytes], None], total: int, seed: int) -> str:
    """Sends total bytes in pieces of any size; returns their checksum."""
    rng, digest = random.Random(seed), hashlib.sha256()
    block = rng.randbytes(1 << 20)
    while total > 0:
        size = min(total, rng.choice([1, 100, 4096, 100_000, 1 << 20]))
        send(block[:size])
        digest.update(block[:size])
        total -= size
    return digest.hexdigest()


def drain(recv: Callable[[int], bytes]) -> str:
    digest = hashlib.sha256()
    while data := recv(1 << 18):
        digest.update(data)
    return digest.hexdigest()


def exchange(client: socket.socket, channel: Channel, total: int, seed: int) -> None:
    """total bytes each way at once, then half-close each way."""

    def from_client() -> str:
        digest = pump_out(client.sendall, total, seed)
        client.shutdown(socket.SHUT_WR)
        return digest

    def from_guest() -> str:
        digest = pump_out(channel.send, total, seed + 1)
        channel.shutdown()
        return digest

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(from_client), pool.submit(drain, channel.recv)]
        jobs += [pool.submit(from_guest), pool.submit(drain, client.recv)]
        up_sent, up_got, down_sent, down_got = [job.result() for job in jobs]
    assert up_sent == up_got
    assert down_sent == down_got
    client.close()


def test_much_data_both_ways(bridge: Bridge, megabytes: int) -> None:
    client, channel = bridge.open()
    exchange(client, channel, megabytes << 20, 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_link_that_delivers_in_pieces(bridge: Bridge, seed: int) -> None:
    rng = random.Random(seed)

    def cut(data: bytes) -> list[bytes]:
        parts = []
        while data:
            size = rng.choice([1, 3, 11, 12, 13, 500, 40_000])
            parts.append(data[:size])
            data = data[size:]
        return parts

    bridge.guest.cut = cut
    client, channel = bridge.open()
    exchange(client, channel, 300_000, seed)


def test_many_channels_at_once(bridge: Bridge) -> None:
    pairs = [bridge.open() for _ in range(200)]
    assert len({channel.number for _, channel in pairs}) == 200
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(exchange, *pair, 20_000 + seed, seed) for seed, pair in enumerate(pairs)]
        for job in jobs:
            job.result()


def test_half_close_by_the_client(bridge: Bridge) -> None:
    client, channel = bridge.open()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert channel.recv_all() == b"question"
    channel.send(b"x" * 1_000_00)
    channel.shutdown()
    assert read_all(client) == b"x" * 1_000_00


def test_half_close_by_the_guest(bridge: Bridge) -> None:
    client, channel = bridge.open()
    channel.send(b"last words")
    channel.shutdown()
    assert read_all(client) == b"last words"
    client.sendall(b"y" * 400_000)
    client.close()
    assert channel.recv_all() == b"y" * 400_000


def test_reset_by_the_guest(bridge: Bridge) -> None:
    client, channel = bridge.open()
    channel.send(b"before")
    channel.close()
    assert read_all(client) == b"before"
    with pytest.raises(BrokenPipeError):
        client.sendall(b"x")


def test_close_by_the_client_is_heard_of_at_once(bridge: Bridge) -> None:
    client, channel = bridge.open()
    begin = time.monotonic()
    client.close()
    channel.wait_reset()
    assert time.monotonic() - begin < 1


def test_close_without_credit_is_heard_of_at_once(bridge: Bridge) -> None:
    bridge.guest.auto_credit = False
    client, channel = bridge.open()
    client.sendall(b"x" * WINDOW)
    wait_until(lambda: channel.got == WINDOW)
    begin = time.monotonic()
    client.close()
    channel.wait_reset()
    assert time.monotonic() - begin < 1


def test_what_was_written_before_the_close_arrives(bridge: Bridge) -> None:
    client, channel = bridge.open()
    client.sendall(b"z" * 150_000)
    client.close()
    assert channel.recv_all() == b"z" * 150_000
    channel.wait_reset()


def test_close_with_data_that_nobody_takes(bridge: Bridge) -> None:
    bridge.guest.auto_credit = False
    client, channel = bridge.open()
    client.sendall(b"x" * (WINDOW + 20_000))
    begin = time.monotonic()
    client.close()
    channel.wait_reset()
    assert 4 < time.monotonic() - begin < 8
    assert channel.got == WINDOW


def test_client_that_closes_while_the_guest_talks(bridge: Bridge) -> None:
    client, channel = bridge.open()
    client.sendall(b"unread by the guest")
    channel.send(b"x" * 100_000)
    client.close()
    with pytest.raises(ConnectionResetError):
        while True:
            channel.send(b"x" * 1000)
    assert_idle(bridge.process.pid)


def test_the_bridge_keeps_to_its_credit(bridge: Bridge) -> None:
    """GuestMux breaks the link on the first byte too many."""
    bridge.guest.auto_credit = False
    client, channel = bridge.open()
    sender = threading.Thread(target=client.sendall, args=(b"x" * 2_000_000,))
    sender.start()
    wait_until(lambda: channel.got == WINDOW)
    for grant in (1, 10, 4097, DATA_MAX + 1, 100_000):
        before = channel.got
        channel.grant(grant)
        wait_until(lambda before=before, grant=grant: channel.got == before + grant)  # type: ignore[misc]
    assert_idle(bridge.process.pid)
    bridge.guest.auto_credit = True
    while channel.taken < 2_000_000:
        assert channel.recv(1 << 20)
    sender.join()
    client.close()


def test_a_slow_reader_stops_nobody_else(bridge: Bridge) -> None:
    slow, slow_channel = bridge.open()
    sender = threading.Thread(target=slow_channel.send, args=(b"s" * 3_000_000,))
    sender.start()
    wait_until(lambda: slow_channel.credit == 0)
    client, channel = bridge.open()
    exchange(client, channel, 2_000_000, 7)
    assert sender.is_alive() and slow_channel.credit == 0
    assert_idle(bridge.process.pid)
    assert len(read_exactly(slow, 3_000_000)) == 3_000_000
    sender.join()


def test_a_busy_channel_does_not_starve_another(bridge: Bridge) -> None:
    busy, busy_channel = bridge.open()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            busy.sendall(b"f" * 100_000)
        busy.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=flood), threading.Thread(target=busy_channel.recv_all)]
    for thread in threads:
        thread.start()
    client, channel = bridge.open()
    begin = time.monotonic()
    for _ in range(100):
        client.sendall(b"ping")
        assert channel.recv(4) == b"ping"
        channel.send(b"pong")
        assert client.recv(4) == b"pong"
    stop.set()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begin < 10


def test_link_loss_ends_clients_and_bridge(bridge: Bridge) -> None:
    client, _ = bridge.open()
    bridge.guest.refused.add(7)
    waiting = bridge.dial(b"")
    bridge.guest.hang_up()
    assert gone(client) and gone(waiting)
    assert bridge.process.wait(5) == 0


def test_last_words_reach_a_slow_client(bridge: Bridge) -> None:
    client, channel = bridge.open()
    channel.send(b"w" * WINDOW)
    channel.shutdown()
    pinged, other = bridge.open()
    other.send(b"the link has delivered all before this")
    assert pinged.recv(6) == b"the li"
    bridge.guest.hang_up()
    time.sleep(0.2)
    assert read_all(client) == b"w" * WINDOW
    assert bridge.process.wait(5) == 0


def test_a_client_that_never_reads_does_not_keep_the_bridge(bridge: Bridge) -> None:
    client, channel = bridge.open()
    channel.send(b"w" * WINDOW)
    wait_until(lambda: channel.credit > 0)
    bridge.guest.hang_up()
    assert bridge.process.wait(10) == 0
    client.close()


BAD_FRAMES = {
    "noise": b"\xff" * 40,
    "type 0": frame(0, 1),
    "type 8": frame(8, 1),
    "reserved byte": (4 << 24 | 1).to_bytes(4, "big") + bytes(8),
    "channel 0": frame(EOF, 0),
    "HELLO without its magic": frame(HELLO, 1, 1),
    "HELLO of another version": frame(HELLO, MAGIC, 2),
    "too long": frame(DATA, 1, DATA_MAX + 1),
    "EOF with a value": frame(EOF, 1, 1),
    "RESET with a value": frame(RESET, 1, 1),
    "ACCEPT twice": frame(3, 1),
    "credit above the window": frame(5, 1, 1),
    "data after EOF": frame(EOF, 1) + frame(DATA, 1, 1, b"x"),
    "EOF twice": frame(EOF, 1) + frame(EOF, 1),
    "data above the credit": b"".join(frame(DATA, 1, DATA_MAX, bytes(DATA_MAX)) for _ in range(30)),
}


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_a_broken_rule_drops_all_and_begins_anew(bridge: Bridge, bad: bytes) -> None:
    client, channel = bridge.open()
    assert channel.number == 1
    channel.credit -= len(bad)  # what the bridge takes of it before it notices may be credited
    bridge.guest.send(bad)
    bridge.guest.wait_hello(2)
    read_all(client)
    client, channel = bridge.open()
    exchange(client, channel, 100_000, 3)


def test_random_noise(bridge: Bridge) -> None:
    rng = random.Random(4)
    for _ in range(20):
        client, _ = bridge.open()
        count = bridge.guest.hellos
        bridge.guest.send(rng.randbytes(rng.randrange(12, 3000)) + b"\xff" * 2 * DATA_MAX)
        bridge.guest.wait_hello(count + 1)
        read_all(client)
    client, channel = bridge.open()
    exchange(client, channel, 100_000, 5)


def test_a_guest_that_begins_anew(bridge: Bridge) -> None:
    client, _ = bridge.open()
    bridge.guest.send(frame(HELLO, MAGIC, 1))
    bridge.guest.wait_hello(2)
    assert gone(client)
    client, channel = bridge.open()
    exchange(client, channel, 100_000, 6)


def test_frames_of_unknown_channels(bridge: Bridge) -> None:
    client, channel = bridge.open()
    bridge.guest.send(frame(OPEN, 77, 1024) + frame(DATA, 78, 3, b"abc") + frame(EOF, 79) + frame(RESET, 80))
    bridge.guest.send(b"".join(frame(DATA, 1000 + n % 100, 1, b"x") for n in range(20_000)))
    exchange(client, channel, 100_000, 8)


def test_a_guest_that_floods_without_reading(programs: Path) -> None:
    with running_bridge(programs, greet=False) as bridge:
        bridge.guest.send(frame(HELLO, MAGIC, 1))
        for start in range(1, 400_000, 10_000):
            bridge.guest.send(b"".join(frame(EOF, number) for number in range(start, start + 10_000)))
        bridge.guest.greet = True
        bridge.guest.send(frame(HELLO, MAGIC, 1))
        rss = int(Path(f"/proc/{bridge.process.pid}/statm").read_text().split()[1])
        assert rss * resource.getpagesize() < 60 << 20


def test_client_limit(bridge: Bridge) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    clients = [bridge.dial(b"") for _ in range(1024)]
    with bridge.dial(b"") as one_more:
        assert gone(one_more)
    clients.pop().close()
    wait_until(lambda: len(open_files(bridge.process.pid)) < 1024 + 7)
    client, _ = bridge.open()
    for each in [*clients, client]:
        each.close()


def test_out_of_descriptors(bridge: Bridge) -> None:
    client, channel = bridge.open()
    limit = len(open_files(bridge.process.pid)) + 2
    resource.prlimit(bridge.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    clients = [bridge.dial(b"CONNECT 5\n") for _ in range(6)]
    assert_idle(bridge.process.pid)
    exchange(client, channel, 100_000, 9)
    for each in clients:
        bridge.guest.accept()
        assert read_line(each).startswith(b"OK ")
        each.close()


def test_signals(bridge: Bridge) -> None:
    client, channel = bridge.open()
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        bridge.process.send_signal(ignored)
    client.sendall(b"still there")
    assert channel.recv(100) == b"still there"
    bridge.process.send_signal(signal.SIGTERM)
    assert bridge.process.wait(5) == 0
    assert gone(client)


def test_nothing_of_the_caller_is_held(bridge: Bridge) -> None:
    client, _ = bridge.open()
    pid = bridge.process.pid
    files = open_files(pid)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    assert {files[fd] for fd in (0, 1, 2)} == {"/dev/null"}
    others = sorted(name.partition(":")[0] for fd, name in files.items() if fd > 2)
    assert others == ["anon_inode", "anon_inode", "socket", "socket", "socket"]
    client.close()
    assert_idle(pid)


def test_usage(programs: Path) -> None:
    for arguments in (
        [],
        ["--link-fd", "3"],
        ["--link-fd", "x", "--listen-fd", "0"],
        ["--link-fd", "0", "--listen-fd", "99"],
    ):
        status = os.spawnv(os.P_WAIT, programs / "runv-bridge", ["runv-bridge", *arguments])
        assert status == 2


def test_guest_fake_is_strict() -> None:
    """Else the tests above would prove nothing."""
    host, guest = socket.socketpair()
    mux = GuestMux(guest)
    host.sendall(frame(HELLO, MAGIC, 1) + frame(OPEN, 1, 1) + frame(DATA, 1, DATA_MAX, bytes(DATA_MAX)) * (WINDOW // DATA_MAX + 1))
    mux.thread.join(5)
    with pytest.raises(AssertionError, match="against a credit"):
        mux.close()
    host.close()
