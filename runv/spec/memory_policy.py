"""linux.memoryPolicy: on which of the host's NUMA nodes the machine's memory is to lie (spec: config-linux.md, "Memory policy"). Pure."""


from runv.errors import ConfigError
from runv.spec.lists import number_list

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import MemoryPolicy

# The kernel's numbers: set_mempolicy(2).
MODES = {
    f"MPOL_{name}": number
    for number, name in enumerate(
        ("DEFAULT", "PREFERRED", "BIND", "INTERLEAVE", "LOCAL", "PREFERRED_MANY", "WEIGHTED_INTERLEAVE")
    )
}
FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
_WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
_PATH = "$.linux.memoryPolicy"
_NODES_MAX = 1024


def mode_and_nodes(policy: "MemoryPolicy") -> tuple[int, set[int]]:
    """The two arguments of set_mempolicy(2): the mode with its flags, and the nodes.

    :raise ConfigError: the kernel has no such policy
    """
    mode = MODES.get(policy.mode)
    if mode is None:
        raise ConfigError(f"config.json: {_PATH}.mode: unknown policy {policy.mode!r}")
    for flag in policy.flags or []:
        if flag not in FLAGS:
            raise ConfigError(f"config.json: {_PATH}.flags: unknown flag {flag!r}")
        mode |= FLAGS[flag]
    nodes = number_list(policy.nodes, f"{_PATH}.nodes")
    if nodes and (policy.mode in _WITHOUT_NODES or max(nodes) >= _NODES_MAX):
        raise ConfigError(f"config.json: {_PATH}.nodes: {policy.mode} cannot have nodes {policy.nodes!r}")
    if not nodes and policy.mode not in (*_WITHOUT_NODES, "MPOL_PREFERRED"):
        raise ConfigError(f"config.json: {_PATH}.nodes: {policy.mode} needs nodes")
    return mode, nodes
