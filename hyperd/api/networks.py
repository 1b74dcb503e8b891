"""Networks, published ports, and connections into pods."""

import asyncio
import contextlib
import ipaddress

import msgspec
from aiohttp import WSMsgType, web

from hyperd import spec
from hyperd.api.call import Body, Call, Params, Route
from hyperd.api.pods import pod_of
from hyperd.api.streams import take_stream, websocket
from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError, UnavailableError
from hyperd.networks import Network, Networks, NetworkSpec
from hyperd.pods.network import port_map, ports_of
from hyperd.pods.pod import Pod

_CHUNK = 1 << 16
_CONNECT_S = 10.0


class NetworkView(msgspec.Struct, frozen=True, kw_only=True):
    """A network, and the names of its pods."""

    name: str
    subnets: tuple[str, ...]
    gateways: tuple[str, ...]
    bridge: str
    mtu: int
    domain: str
    internal: bool
    isolated: bool
    masquerade: bool
    labels: dict[str, str]
    created: str
    pods: list[str]


class ConnectBody(Body, frozen=True):
    """``pod``: who; the rest as an interface of a pod."""

    pod: str
    addresses: tuple[str, ...] = ()
    mac: str = ""
    aliases: tuple[str, ...] = ()
    name: str = ""


class DisconnectBody(Body, frozen=True):
    """Who."""

    pod: str


class PortsBody(Body, frozen=True):
    """Published ports."""

    ports: tuple[spec.Port, ...]


class Pruned(msgspec.Struct, frozen=True):
    """Names of what went."""

    networks: list[str]


class ForwardParams(Params, frozen=True):
    """``port``: TCP, of the pod."""

    port: int


def networks_of(call: Call) -> Networks:
    """:raise ConflictError: the daemon has none"""
    if call.services.networks is None:
        raise ConflictError("this daemon has no networks", hint="network.enabled in its settings")
    return call.services.networks


def _view(call: Call, network: Network) -> NetworkView:
    names = {pod.book.pod.id: pod.book.pod.name for pod in call.services.manager.all()}
    return NetworkView(
        name=network.name,
        subnets=network.subnets,
        gateways=network.gateways,
        bridge=network.bridge,
        mtu=network.mtu,
        domain=network.domain,
        internal=network.internal,
        isolated=network.isolated,
        masquerade=network.masquerade,
        labels=network.labels,
        created=network.created,
        pods=sorted(names[one] for one in networks_of(call).pods_of(network.name) if one in names),
    )


async def listing(call: Call) -> list[NetworkView]:
    """All."""
    return [] if call.services.networks is None else [_view(call, network) for network in call.services.networks.list()]


async def show(call: Call) -> NetworkView:
    """One."""
    return _view(call, networks_of(call).find(call.name()))


async def create(call: Call) -> NetworkView:
    """One more."""
    network = await networks_of(call).create(call.body)
    await call.services.tools.bus.publish("network", "create", network.name, network.name)
    return _view(call, network)


async def remove(call: Call) -> None:
    """One that no pod is in."""
    name = call.name()
    networks_of(call).find(name)
    for pod in call.services.manager.all():
        if any(interface.network == name for interface in pod.book.pod.spec.interfaces):
            raise ConflictError(f"network {name}: pod {pod.book.pod.name} names it", hint="remove the pod")
    await networks_of(call).remove(name)
    await call.services.tools.bus.publish("network", "remove", name, name)


async def prune(call: Call) -> Pruned:
    """Those that no pod names, but the default one."""
    networks = networks_of(call)
    named = {interface.network for pod in call.services.manager.all() for interface in pod.book.pod.spec.interfaces}
    gone = [one.name for one in networks.list() if one.name not in named and one.name != networks.settings.default.name]
    for name in gone:
        await networks.remove(name)
        await call.services.tools.bus.publish("network", "remove", name, name)
    return Pruned(gone)


async def connect(call: Call) -> NetworkView:
    """A card in one more network; in a pod that runs at once."""
    pod = call.services.manager.find(call.body.pod)
    network = networks_of(call).find(call.name())
    if any(one.network == network.name for one in pod.book.pod.spec.interfaces):
        raise ConflictError(f"pod {pod.book.pod.name} is in network {network.name} already")
    card = spec.Interface(
        network=network.name, addresses=call.body.addresses, mac=call.body.mac, aliases=call.body.aliases, name=call.body.name
    )
    if pod.book.pod.phase == "running":
        await pod.connect(card)
    else:
        await pod.book.change(spec=msgspec.structs.replace(pod.book.pod.spec, interfaces=(*pod.book.pod.spec.interfaces, card)))
    await call.services.tools.bus.publish("network", "connect", network.name, network.name, pod=pod.book.pod.name)
    return _view(call, network)


async def disconnect(call: Call) -> NetworkView:
    """Takes a pod out of a network."""
    pod = call.services.manager.find(call.body.pod)
    network = networks_of(call).find(call.name())
    if not any(one.network == network.name for one in pod.book.pod.spec.interfaces):
        raise MissingError(f"pod {pod.book.pod.name} is not in network {network.name}", hint="`hyperctl inspect` shows its networks")
    await pod.disconnect(network.name)
    await call.services.tools.bus.publish("network", "disconnect", network.name, network.name, pod=pod.book.pod.name)
    return _view(call, network)


async def ports(call: Call) -> list[spec.Port]:
    """What a pod publishes; where it runs, with the ports that were chosen."""
    pod = pod_of(call)
    published = call.services.networks.ports(pod.book.pod.id) if call.services.networks is not None else ()
    if not published:
        return ports_of(pod.book.pod.spec)
    return [
        spec.Port(container_port=one.container_port + number, host_port=one.host_port + number, host_ip=one.host_ip, protocol=one.protocol)
        for one in published
        for number in range(one.count)
    ]


async def publish(call: Call) -> list[spec.Port]:
    """More ports."""
    pod = pod_of(call)
    if any(not (0 <= one.host_port <= 65535 and 1 <= one.container_port <= 65535) for one in call.body.ports):
        raise InvalidError("ports: must be from 1 to 65535")
    wanted = call.body.ports
    if pod.book.pod.phase == "running":
        found = await networks_of(call).publish(pod.book.pod.id, [port_map(one) for one in wanted])
        wanted = tuple(msgspec.structs.replace(one, host_port=made.host_port) for one, made in zip(wanted, found, strict=True))
    await pod.book.change(spec=msgspec.structs.replace(pod.book.pod.spec, ports=(*pod.book.pod.spec.ports, *wanted)))
    return await ports(call)


async def unpublish(call: Call) -> list[spec.Port]:
    """Takes ports back."""
    pod = pod_of(call)

    def same(one: spec.Port, other: spec.Port) -> bool:
        return (one.host_port, one.protocol) == (other.host_port, other.protocol) and other.host_ip in ("", one.host_ip)

    for wanted in call.body.ports:
        if not any(same(one, wanted) for one in ports_of(pod.book.pod.spec)):
            raise MissingError(f"pod {pod.book.pod.name} does not publish {wanted.host_port}/{wanted.protocol}", hint="`hyperctl ports ls` shows what it publishes")

    def kept(all_of_them: tuple[spec.Port, ...]) -> tuple[spec.Port, ...]:
        return tuple(one for one in all_of_them if not one.host_port or not any(same(one, wanted) for wanted in call.body.ports))

    if pod.book.pod.phase == "running" and call.services.networks is not None:
        active = [one for one in ports_of(pod.book.pod.spec) if any(same(one, wanted) for wanted in call.body.ports)]
        await call.services.networks.unpublish(pod.book.pod.id, [port_map(one) for one in active])
    containers = tuple(msgspec.structs.replace(one, ports=kept(one.ports)) for one in pod.book.pod.spec.containers)
    await pod.book.change(spec=msgspec.structs.replace(pod.book.pod.spec, ports=kept(pod.book.pod.spec.ports), containers=containers))
    return await ports(call)


async def forward(call: Call) -> web.StreamResponse:
    """One TCP connection to a port of the pod; frames of the websocket are its bytes."""
    pod = pod_of(call)
    if not 1 <= call.params.port <= 65535:
        raise InvalidError("port must be from 1 to 65535")
    reader, writer = await _open(pod, call.params.port)
    take_stream(call)
    try:
        response = await websocket(call)
        await _carry(call, response, reader, writer)
        await response.close()
        return response
    finally:
        call.services.streams -= 1
        writer.close()


async def _open(pod: Pod, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if pod.book.pod.phase != "running":
        raise ConflictError(f"pod {pod.book.pod.name} is not running", hint="start it first")
    addresses = [str(ipaddress.ip_interface(one).ip) for found in pod.book.pod.addresses.values() for one in found]
    if not addresses:
        raise ConflictError(f"pod {pod.book.pod.name} has no address")
    problem = ""
    for address in addresses:
        try:
            async with asyncio.timeout(_CONNECT_S):
                return await asyncio.open_connection(address, port)
        except TimeoutError:
            problem = problem or "no answer"
        except OSError as error:
            problem = problem or error.strerror or str(error)
    raise UnavailableError(f"cannot connect to port {port} of pod {pod.book.pod.name}: {problem}")


async def _carry(call: Call, response: web.WebSocketResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def out() -> None:
        while data := await reader.read(_CHUNK):
            await response.send_bytes(data)

    async def into() -> None:
        async for message in response:
            if message.type is not WSMsgType.BINARY:
                raise InvalidError("frames must be binary")
            if message.data:
                writer.write(message.data)
                await writer.drain()
            elif writer.can_write_eof():
                writer.write_eof()

    tasks = {asyncio.create_task(out()), asyncio.create_task(into()), asyncio.create_task(call.services.closing.wait())}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(OSError, HyperError):
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


ROUTES = (
    Route("GET", "/networks", listing, "List networks", answer=list[NetworkView]),
    Route("POST", "/networks", create, "Make a network", body=NetworkSpec, answer=NetworkView, status=201),
    Route("POST", "/networks/prune", prune, "Remove networks that no pod names", answer=Pruned),
    Route("GET", "/networks/{name}", show, "Show a network", answer=NetworkView),
    Route("DELETE", "/networks/{name}", remove, "Remove a network", status=204),
    Route("POST", "/networks/{name}/connect", connect, "Connect a pod to a network", body=ConnectBody, answer=NetworkView),
    Route("POST", "/networks/{name}/disconnect", disconnect, "Take a pod out of a network", body=DisconnectBody, answer=NetworkView),
    Route("GET", "/pods/{name}/ports", ports, "List the published ports of a pod", answer=list[spec.Port]),
    Route("POST", "/pods/{name}/ports", publish, "Publish ports of a pod", body=PortsBody, answer=list[spec.Port]),
    Route("DELETE", "/pods/{name}/ports", unpublish, "Take back published ports", body=PortsBody, answer=list[spec.Port]),
    Route("GET", "/pods/{name}/port-forward", forward, "Connect to a port of a pod", ForwardParams, kind="websocket"),
)
