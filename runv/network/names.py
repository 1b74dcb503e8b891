"""Which links of a namespace can be an engine's, by name alone. On the path of ``start``: imports nothing."""

# The kernel makes these in every new namespace when their drivers are there. They are nobody's network.
_FALLBACKS = frozenset(
    {
        "lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6gretap0", "ip6erspan0", "ip6_vti0",
    }
)  # fmt: skip

_TAP_PREFIX = "runv-tap"


def wanted(name: str) -> bool:
    """Whether a link of this name can be an engine's."""
    return name not in _FALLBACKS and not name.startswith(_TAP_PREFIX)


def names_in(net_dev: str) -> list[str]:
    """The links that may be carried, from the text of /proc/PID/net/dev."""
    names = [line.rpartition(":")[0].strip() for line in net_dev.splitlines() if ":" in line]
    return [name for name in names if wanted(name)]


def tap_name(number: int) -> str:
    """The tap behind card number ``number``."""
    return f"{_TAP_PREFIX}{number}"
