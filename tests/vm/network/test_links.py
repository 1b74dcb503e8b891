"""What an engine put into the network namespace is the guest's: addresses, routes, rules, MTU, names; and nothing of ours stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness import DEADLINE_S, SLOW, Bundle, Runtime, qemu_of, wait_until
from .nets import MAC, MIB, Net, in_namespace, ip, run

pytestmark = pytest.mark.vm


def test_the_guest_has_the_link(runv: Runtime, bundle: Bundle, net: Net) -> None:
    script = (
        "ip address show eth0; echo ROUTES; ip route; ip -6 route; echo NEIGHBOURS; ip neigh; ls /sys/class/net"
    )
    text = run(runv, in_namespace(bundle, net.path), script)
    for part in (
        "mtu 1400", f"link/ether {MAC}", "inet 10.77.0.2/24", "inet6 fd00:77::2/64",
        "default via 10.77.0.1 dev eth0", "192.0.2.0/24 via 10.77.0.1 dev eth0", "default via fd00:77::1 dev eth0",
        "10.77.0.9 dev eth0 lladdr 02:00:00:00:00:09",
    ):  # fmt: skip
        assert part in text, text
    assert text.split()[-2:] == ["eth0", "lo"]
    assert net.nothing_of_ours()
    assert "10.77.0.2/24" in ip("-n", net.pod, "address", "show", "eth0"), "the engine's own address is gone"


def test_routes_and_rules(runv: Runtime, bundle: Bundle, net: Net) -> None:
    net.veth("eth1", 1)
    for words in (
        "route add 10.1.0.0/16 nexthop via 10.77.0.1 weight 3 nexthop via 10.77.1.1",
        "-6 route add fd01::/64 nexthop via fd00:77::1 nexthop via fd00:77:1::1",
        "route add 10.2.0.0/16 via 10.77.0.1 mtu 1300 table 100 metric 9",
        "route add blackhole 10.3.0.0/16",
        "-6 route add unreachable fd03::/64",
        "route add 10.4.0.0/16 via inet6 fd00:77:1::1 dev eth1",
        "rule add from 10.77.1.0/24 fwmark 3/7 table 100 priority 50",
        "-6 rule add not to fd00::/16 iif eth1 prohibit priority 51",
    ):
        ip("-n", net.pod, *words.split())
    # busybox's ip knows no routes with two ways out, and shows neither metrics nor rules: so the host's, on its own libraries.
    host = "/bin:/usr/bin:/usr/sbin:/lib:/lib64:/usr/lib"
    for folder in host.split(":"):
        (bundle.rootfs / f"host{folder}").mkdir(parents=True, exist_ok=True)
        bundle.mount(f"/host{folder}", folder, "bind", "rbind", "ro")
    script = "chroot /host ip route show table all; chroot /host ip -6 route; chroot /host ip rule; chroot /host ip -6 rule"
    for names in bundle.process["capabilities"].values():
        names.append("CAP_SYS_CHROOT")
    text = " ".join(run(runv, in_namespace(bundle, net.path), script).split())
    for part in (
        "10.1.0.0/16 nexthop via 10.77.0.1 dev eth0 weight 3 nexthop via 10.77.1.1 dev eth1 weight 1",
        "nexthop via fd00:77::1 dev eth0 weight 1",
        "nexthop via fd00:77:1::1 dev eth1 weight 1",
        "10.2.0.0/16 via 10.77.0.1 dev eth0 table 100 metric 9 mtu 1300",
        "blackhole 10.3.0.0/16",
        "unreachable fd03::/64",
        "10.4.0.0/16 via inet6 fd00:77:1::1 dev eth1",
        "50: from 10.77.1.0/24 fwmark 0x3/0x7 lookup 100",
        "51: not from all to fd00::/16 iif eth1 prohibit",
    ):
        assert part in text, text


@pytest.mark.parametrize("address", ["10.77.0.1", "fd00:77::1"])
def test_packets_both_ways(runv: Runtime, bundle: Bundle, net: Net, address: str) -> None:
    script = f"ping -c1 -W5 {address} >/dev/null && nc {address} 8000 </dev/null | wc -c"
    with net.server():
        assert run(runv, in_namespace(bundle, net.path), script).split() == [str(MIB << 20)]
    assert net.nothing_of_ours()


def test_the_peer_reaches_the_guest(runv: Runtime, bundle: Bundle, net: Net) -> None:
    created = runv.start(in_namespace(bundle, net.path).args("nc", "-l", "-p", "9000"))
    assert "runv-tap0" in net.links()

    def sent() -> bool:
        send = "import socket; socket.create_connection(('10.77.0.2', 9000), 2).sendall(b'hello')"
        command = ["ip", "netns", "exec", net.peer, sys.executable, "-c", send]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=20 * SLOW).returncode == 0

    wait_until(sent, "a connection into the guest")
    created.wait_output(b"hello")
    created.wait()
    created.delete()
    assert net.nothing_of_ours()


def test_a_hook_fills_the_namespace(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    """The machine starts meanwhile: the hook waits for it."""
    hook = folder / "hook"
    hook.write_text(
        "#!/bin/sh\n"
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')\n"
        f"until [ -s {runv.root}/@sandboxes/*/qemu.pid ]; do sleep 0.02; done\n"
        "exec nsenter -t $pid -n sh -c 'ip link add name hooked address 02:00:5e:10:00:07 type veth peer name other &&"
        " ip address add 10.78.0.2/24 dev hooked && ip link set hooked up'\n"
    )
    hook.chmod(0o755)
    bundle.config["hooks"] = {"createRuntime": [{"path": str(hook), "timeout": int(DEADLINE_S)}]}
    assert "10.78.0.2/24" in run(runv, bundle, "ip address show hooked")


def test_links_with_one_address(runv: Runtime, bundle: Bundle, net: Net) -> None:
    """As those of IPvlan have. Each is the one it is on the host: packets of the first do not get lost in the second."""
    net.veth("twin", 1, mac=MAC)
    text = run(
        runv,
        in_namespace(bundle, net.path),
        "ip -o -4 address show; cat /sys/class/net/*/address; ping -c1 -W5 10.77.0.1 && ping -c1 -W5 10.77.1.1",
    )
    assert "eth0    inet 10.77.0.2/24" in text
    assert "twin    inet 10.77.1.2/24" in text
    assert text.count(MAC) == 2
    assert text.count("0% packet loss") == 2
    assert net.nothing_of_ours()


def test_too_many_links(runv: Runtime, bundle: Bundle, net: Net) -> None:
    for number in range(8):
        ip("-n", net.pod, "link", "add", f"a{number}", "type", "veth", "peer", "name", f"b{number}")
    done = runv.run_bundle(in_namespace(bundle, net.path).args("true"))
    assert done.code != 0
    assert "there are 17 network interfaces, and a guest has at most 16" in done.err
    assert net.nothing_of_ours()


def test_after_a_killed_machine_the_namespace_serves_again(
    runv: Runtime, make_bundle: Callable[[], Bundle], net: Net
) -> None:
    created = runv.start(in_namespace(make_bundle(), net.path).args("sleep", "100"))
    os.kill(qemu_of(runv.root), 9)
    created.wait()
    created.delete()
    assert net.nothing_of_ours()
    run(runv, in_namespace(make_bundle(), net.path), "ping -c1 -W5 10.77.0.1")
    assert net.nothing_of_ours()
