"""Settings of the host's kernel, changed only where they must be: docs/networks.md lists them."""

from pathlib import Path

from hyperd.errors import HyperError

_NET = Path("/proc/sys/net")


def has_ipv6() -> bool:
    return (_NET / "ipv6/conf/all/disable_ipv6").exists() and _read("ipv6/conf/all/disable_ipv6") == "0"


def forward(*, ipv6: bool) -> None:
    """Have the host pass packets on.

    A host that forwards IPv6 stops listening to routers, and forgets what it learned of them, unless ``accept_ra`` is 2: so that comes first.
    """
    _set("ipv4/ip_forward", "1")
    if not ipv6 or _read("ipv6/conf/all/forwarding") == "1":
        return
    for folder in sorted((_NET / "ipv6/conf").iterdir()):
        if folder.name != "all" and _read(f"ipv6/conf/{folder.name}/accept_ra") == "1":
            _set(f"ipv6/conf/{folder.name}/accept_ra", "2")
    _set("ipv6/conf/all/forwarding", "1")


def settle_bridge(name: str, *, ipv6: bool, local: bool) -> None:
    """``local``: connections of the host's to 127.0.0.1 may be sent on through the bridge (our table keeps pods from using this)."""
    _set(f"ipv4/conf/{name}/route_localnet", "1" if local else "0")
    if ipv6:
        _set(f"ipv6/conf/{name}/accept_ra", "0")


def _read(name: str) -> str:
    """Empty: there is none."""
    try:
        return (_NET / name).read_text().strip()
    except OSError:
        return ""


def _set(name: str, value: str) -> None:
    if _read(name) == value:
        return
    try:
        (_NET / name).write_text(value)
    except OSError as error:
        raise HyperError(f"cannot set net/{name} to {value}: {error.strerror}") from error
