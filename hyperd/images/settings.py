"""What the daemon's settings say about images."""

from typing import NamedTuple


class ImageSettings(NamedTuple):
    """``mirrors``: for a host of a registry (``*``: any), those that are asked before it, as ``[http[s]://]host[:port][/prefix]``.

    ``insecure``: hosts (``host[:port]``, or a network as ``10.0.0.0/8``) that may be spoken to by HTTP, or with a certificate that nobody vouches for;
    the host itself is always one. ``certificates``: folders with one folder for each ``host[:port]``: ``*.crt`` authorities, ``*.cert`` with ``*.key``
    the client's own. ``stall_timeout_s``: how long a transfer may stand still. Limits of a layer: ``layer_entries_max`` files,
    ``layer_bytes_max`` bytes. ``layers_max``: of an image that has more the
    lower ones are joined into one. ``docker_config``: a config.json to take credentials from, before the usual ones; ``auth_file``: where ``login`` writes,
    empty: in the root of the store.
    """

    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    insecure: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ("/etc/hyperd/certs.d", "/etc/docker/certs.d")
    downloads: int = 4
    conversions: int = 2
    attempts: int = 5
    back_off_s: float = 0.5
    connect_timeout_s: float = 15.0
    stall_timeout_s: float = 60.0
    layer_entries_max: int = 1_000_000
    layer_bytes_max: int = 64 << 30
    layers_max: int = 48
    docker_config: str = ""
    auth_file: str = ""
