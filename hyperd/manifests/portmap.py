"""Ranges of ports: ``8000-8010`` to as many, or all to one."""

import re

from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.spec import Port, Protocol

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
COUNT_MAX = 4096


def port_map(host: str, container: str, protocol: Protocol, host_path: str, container_path: str, host_ip: str = "") -> tuple[Port, ...]:
    """One ``Port`` for each port of the host. ``host`` empty: nothing is published.

    :raise InvalidError: not a port, or ranges that do not fit
    """
    inner = _range(container, container_path)
    if not host:
        return tuple(Port(container_port=number, protocol=protocol) for number in inner)
    outer = _range(host, host_path)
    if len(inner) != len(outer) and len(inner) != 1:
        raise InvalidError(f"{host_path}: {host} has {len(outer)} ports, and {container} has {len(inner)}", hint="as many, or one port of the container")
    return tuple(
        Port(container_port=inner[index % len(inner)], host_port=number, host_ip=host_ip, protocol=protocol) for index, number in enumerate(outer)
    )


def _range(text: str, path: str) -> range:
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise InvalidError(f"{path}: {text[:80]!r} is not a port or a range of ports", hint="such as 80 or 8000-8010")
    first = names.port(int(found[1]), path)
    last = names.port(int(found[2] or found[1]), path)
    if last < first:
        raise InvalidError(f"{path}: {text} ends before it begins")
    if last - first >= COUNT_MAX:
        raise InvalidError(f"{path}: {text} are more than {COUNT_MAX} ports")
    return range(first, last + 1)
