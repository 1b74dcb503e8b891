"""Packets as they are on the wire between guest and peer: large ones, fragments, segments that nobody cut, several queues."""

from __future__ import annotations

import json

import pytest

from ..harness import Bundle, Runtime
from .nets import MIB, Net, in_namespace, ip, run

pytestmark = pytest.mark.vm


def packets(net: Net, link: str) -> tuple[float, float]:
    """The mean sizes of the packets that a link of the pod has received and sent."""
    (found,) = json.loads(ip("-n", net.pod, "-s", "-j", "link", "show", link))
    both = [found["stats64"][way] for way in ("rx", "tx")]
    return both[0]["bytes"] / both[0]["packets"], both[1]["bytes"] / both[1]["packets"]


@pytest.mark.parametrize("address", ["10.77.0.1", "fd00:77::1"])
def test_segments_are_not_cut_on_the_way(runv: Runtime, bundle: Bundle, net: Net, address: str) -> None:
    """The guest takes and gives TCP segments larger than the MTU, and leaves their checksums to whoever needs them."""
    created = runv.create(
        in_namespace(bundle, net.path).script(
            # dd itself writes to the socket: nc would in pieces of 1 KiB, each of which leaves at once when answers come at once.
            f"nc {address} 8000 </dev/null | wc -c; nc {address} 8001 -e dd if=/dev/zero bs=1M count={MIB} 2>/dev/null"
        )
    )
    with net.server(), net.sink() as sink:
        created.start()
        assert sink.stdout is not None
        assert sink.stdout.readline() == f"{MIB << 20}\n"
        assert created.wait() == 0
    assert created.output() == f"{MIB << 20}\n".encode()
    from_guest, to_guest = packets(net, "runv-tap0")
    whole = 1400 + 14  # the MTU, and an Ethernet header
    assert from_guest > whole, "what the guest sends is cut to the MTU"
    assert to_guest > whole, "what the guest receives is cut to the MTU"
    created.delete()


def test_large_packets(runv: Runtime, bundle: Bundle, empty: Net) -> None:
    """The MTU is the link's: a packet of its size passes whole, one byte more does not where it may not be cut."""
    empty.veth("eth0", 0, mtu=9000)
    script = "cat /sys/class/net/eth0/mtu; ping -c1 -W5 -s 20000 10.77.0.1; ping -c1 -W5 -s 20000 fd00:77::1"
    text = run(runv, in_namespace(bundle, empty.path), script)
    assert text.startswith("9000\n")
    assert text.count(" 0% packet loss") == 2
    created = runv.start(in_namespace(bundle, empty.path).args("sleep", "1000"))
    # Whole, and answered whole: -M do forbids to cut it.
    for size, answered in ((8972, True), (8973, False)):
        words = ["ping", "-c1", "-W5", "-M", "do", "-s", str(size), "10.77.0.2"]
        assert (f"{size + 8} bytes from 10.77.0.2" in peer_says(empty, *words)) == answered
    created.delete()


def peer_says(net: Net, *words: str) -> str:
    return net.inside(net.peer, "sh", "-c", '"$@" 2>&1 || true', "sh", *words)


def test_a_queue_for_each_cpu(runv: Runtime, bundle: Bundle, net: Net) -> None:
    bundle.linux["resources"]["cpu"] = {"quota": 200000, "period": 100000}
    script = "ls /sys/class/net/eth0/queues | sort; nc 10.77.0.1 8000 </dev/null | wc -c; ping -c1 -W5 10.77.1.1"
    created = runv.create(in_namespace(bundle, net.path).script(script))
    net.veth("eth1", 1)  # is plugged in, with as many
    with net.server():
        assert created.start().wait() == 0, created.output()
    assert created.output().decode().split()[:5] == ["rx-0", "rx-1", "tx-0", "tx-1", str(MIB << 20)]
    created.delete()
    assert net.nothing_of_ours()
