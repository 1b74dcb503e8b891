"""Docker's networks: its bridge, published ports, networks of one's own, none, another container's."""

from __future__ import annotations

import os

import pytest

from tests.vm.harness import wait_until

from .docker import Docker
from .harness import ENGINE_ADDRESS, IMAGE, OUTSIDE_ADDRESS, Netns, server

pytestmark = pytest.mark.engines

_WHO = "while :; do echo hello | nc -l -p 8000; done"


def test_bridge(docker: Docker) -> None:
    name = docker.sleeping()
    settings = docker.inspect(name)["NetworkSettings"]
    seen = docker.exec(name, "sh", "-c", "ip addr show eth0; ip route; cat /sys/class/net/eth0/address").ok().out
    assert f"inet {settings['IPAddress']}/{settings['IPPrefixLen']}" in seen
    assert f"default via {settings['Gateway']} dev eth0" in seen
    assert settings["MacAddress"] in seen
    assert docker.exec(name, "ping", "-c", "1", "-W", "10", settings["Gateway"]).ok()


@pytest.mark.smoke
def test_out_through_nat(docker: Docker, outside: Netns) -> None:
    with server(outside, lambda address, asked: f"{address} said {asked.decode()}".encode()) as port:
        done = docker.run(IMAGE, "sh", "-c", f"echo hello | nc {OUTSIDE_ADDRESS} {port}").ok()
    assert done.out == f"{ENGINE_ADDRESS} said hello\n"


@pytest.mark.smoke
def test_a_published_port(docker: Docker, outside: Netns) -> None:
    name = docker.detached("-p", "8080:8000", "-p", "8000/udp", IMAGE, "sh", "-c", _WHO)

    def answers() -> bool:
        try:
            return outside.fetch(ENGINE_ADDRESS, 8080) == b"hello\n"
        except OSError:
            return False

    wait_until(answers, "the published port to answer")
    assert "8000/tcp -> 0.0.0.0:8080" in docker("port", name).out


def test_a_network_of_ones_own(docker: Docker) -> None:
    docker("network", "create", "--subnet", "10.99.0.0/24", "mine")
    one = docker.detached("--network", "mine", "--ip", "10.99.0.7", "--name", "one", IMAGE, "sh", "-c", _WHO)
    assert docker.address(one, "mine") == "10.99.0.7"
    two = docker.sleeping("--network", "mine")
    script = "until nc -w 5 10.99.0.7 8000; do sleep 0.1; done"
    assert docker.exec(two, "timeout", "30", "sh", "-c", script).ok().out == "hello\n"
    alone = docker.sleeping()
    assert docker.exec(alone, "nc", "-w", "1", "10.99.0.7", "8000").code != 0
    # As with runc, runv and runc reach each other.
    done = docker.run("--runtime", "runc", "--network", "mine", IMAGE, "timeout", "30", "sh", "-c", script).ok()
    assert done.out == "hello\n"


@pytest.mark.smoke
def test_names_in_a_network_of_ones_own(docker: Docker) -> None:
    docker("network", "create", "named")
    docker.detached("--network", "named", "--name", "server", "--network-alias", "alias", IMAGE, "sh", "-c", _WHO)
    client = docker.sleeping("--network", "named")
    script = "until nc -w 5 {} 8000; do sleep 0.2; done"
    for name in ("server", "alias"):
        done = docker.exec(client, "timeout", "30", "sh", "-c", script.format(name))
        assert done.ok().out == "hello\n"
    assert docker.exec(client, "nslookup", "nobody").code != 0


def test_no_network(docker: Docker) -> None:
    done = docker.run("--network", "none", IMAGE, "ls", "/sys/class/net").ok()
    assert done.out.split() == ["lo"]


def test_the_network_of_another_container(docker: Docker) -> None:
    first = docker.detached("--name", "first", IMAGE, "sh", "-c", _WHO)
    second = docker.sleeping("--network", "container:first")
    script = "until nc -w 5 127.0.0.1 8000; do sleep 0.1; done"
    assert docker.exec(second, "timeout", "30", "sh", "-c", script).ok().out == "hello\n"
    assert docker.address(first) in docker.exec(second, "ip", "addr").ok().out
    # The machine stays as long as somebody is in it.
    docker("rm", "--force", second)
    assert docker.exec(first, "echo", "still").ok().out == "still\n"


def test_many_bytes_both_ways(docker: Docker, outside: Netns) -> None:
    data = os.urandom(4 << 20)
    with server(outside, lambda _, asked: asked) as port:
        script = f"nc {OUTSIDE_ADDRESS} {port}"
        done = docker.run("-i", IMAGE, "sh", "-c", script, stdin=data).ok()
    assert done.stdout == data


def test_a_network_of_two_and_a_link_of_given_address(docker: Docker) -> None:
    docker("network", "create", "--subnet", "10.98.0.0/24", "front")
    docker("network", "create", "--internal", "--subnet", "10.97.0.0/24", "back")
    name = docker("create", "--network", "front", "--mac-address", "02:42:0a:62:00:63", IMAGE, "ip", "addr").out.strip()
    docker("network", "connect", "--ip", "10.97.0.5", "back", name)
    seen = docker("start", "-a", name).out
    assert "02:42:0a:62:00:63" in seen and "inet 10.98.0." in seen and "inet 10.97.0.5/24" in seen


def test_connect_and_disconnect_while_it_runs(docker: Docker) -> None:
    docker("network", "create", "--subnet", "10.96.0.0/24", "later")
    peer = docker.detached("--network", "later", "--name", "peer", IMAGE, "sh", "-c", _WHO)
    name = docker.sleeping()

    def addresses() -> str:
        return docker.exec(name, "ip", "-o", "-4", "address").ok().out

    docker("network", "connect", "--ip", "10.96.0.77", "later", name)
    wait_until(lambda: "inet 10.96.0.77/24" in addresses(), "the link to come")
    script = "until nc -w 5 {} 8000; do sleep 0.2; done"
    assert docker.exec(name, "timeout", "30", "sh", "-c", script.format(docker.address(peer, "later"))).ok().out == "hello\n"
    # With the network comes Docker's resolver.
    assert docker.exec(name, "timeout", "30", "sh", "-c", script.format("peer")).ok().out == "hello\n"
    docker("network", "disconnect", "later", name)
    wait_until(lambda: "10.96.0.77" not in addresses(), "the link to go")
    gateway = docker.inspect(name)["NetworkSettings"]["Gateway"]
    assert docker.exec(name, "ping", "-c", "1", "-W", "10", gateway).ok()
