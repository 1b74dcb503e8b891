"""Networks of pods: bridges of the host, addresses, NAT, published ports and names. docs/networks.md says how they behave."""

from .manager import Networks
from .records import Attachment, Network, NetworkSpec, PortMap, Restored, Settings

__all__ = ["Attachment", "Network", "NetworkSpec", "Networks", "PortMap", "Restored", "Settings"]
