"""A real machine in a pod's namespace: what holds for a process there holds for the guest."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
from collections.abc import Iterator

import pytest

from hyperd.networks import Attachment, NetworkSpec, PortMap
from tests.vm.harness import DEADLINE_S, Bundle, Done, Runtime, new_id, own_templates, runv_program
from tests.vm.network.nets import in_namespace

from .world import HOST, OUTSIDE, World, running

pytestmark = pytest.mark.vm

_SERVER = "nc -ll -p 80 -e echo machine & until grep -q :0050 /proc/net/tcp*; do sleep 0.1; done; echo ready; wait"


@pytest.fixture
def runv(world: World) -> Iterator[Runtime]:
    root = world.root / "runv"
    root.mkdir(mode=0o700)
    runtime = Runtime("runv", runv_program(), root)
    with own_templates():
        yield runtime
        runtime.delete_all()


def bundle(world: World, path: str, servers: tuple[str, ...], searches: tuple[str, ...]) -> Bundle:
    folder = world.root / "bundle"
    folder.mkdir()
    made = Bundle(folder).script(_SERVER)
    made.rootfs.joinpath("etc").mkdir(exist_ok=True)
    lines = [f"search {' '.join(searches)}", *(f"nameserver {server}" for server in servers)]
    made.rootfs.joinpath("etc/resolv.conf").write_text("\n".join(lines) + "\n")
    return in_namespace(made, path)


def test_a_machine_in_its_networks(world: World, runv: Runtime) -> None:
    async def main() -> None:
        async with running(world) as networks:
            path = await networks.make_netns("vm")
            item = await networks.attach("vm", path, names=("vm",))
            other = await networks.attach("other", await networks.make_netns("other"), names=("other",))
            await networks.publish("vm", [PortMap(8080, 80)])
            await world.serve(world.outside, 80)
            await world.serve("other", 80)
            container = new_id()
            made = bundle(world, path, item.dns, item.searches)
            process = runv.popen("run", "--bundle", str(made.path), container, stdout=subprocess.PIPE)
            try:
                assert process.stdout is not None
                assert (await asyncio.to_thread(select.select, [process.stdout], [], [], DEADLINE_S))[0]
                assert os.read(process.stdout.fileno(), 100) == b"ready\n"
                await look_around(world, runv, container)
                found = (await guest(runv, container, "nslookup", "other")).out
                assert f"Address: {address(other)}" in found
                blue = await networks.create(NetworkSpec(name="blue"))
                await networks.attach("vm", path, "blue")
                far = await networks.attach("far", await networks.make_netns("far"), "blue")
                (await asyncio.to_thread(runv.run, "interface", "add", container, "eth1")).ok()
                for target in (*blue.gateways, *networks.find("default").gateways, address(far)):
                    (await guest(runv, container, "ping", "-c1", "-W9", target)).ok()
                await networks.close()
                await networks.restore({"vm", "other", "far"})
                await look_around(world, runv, container)
            finally:
                await asyncio.to_thread(runv.run, "delete", "--force", container)
                process.wait(60)
                assert process.stdout is not None
                process.stdout.close()

    asyncio.run(main())


def address(item: Attachment) -> str:
    return item.addresses[0].split("/")[0]


async def guest(runv: Runtime, container: str, *args: str) -> Done:
    return await asyncio.to_thread(runv.run, "exec", container, *args)


async def look_around(world: World, runv: Runtime, container: str) -> None:
    """Into the machine by its published port, out of it, and to its neighbour."""
    assert await world.ask(world.outside, HOST, 8080) == "machine"
    assert await world.ask("", "::1", 8080) == "machine"
    assert (await guest(runv, container, "nc", OUTSIDE, "80")).ok().out == f"{world.outside} {HOST}"
    assert (await guest(runv, container, "nc", "other.hyper.internal", "80")).ok().out.startswith("other ")
