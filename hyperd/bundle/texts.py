"""The small files that every container gets: /etc/hosts, /etc/hostname, /etc/resolv.conf."""

import re

from hyperd.bundle.records import Place
from hyperd.spec import Pod

# glibc looks at no more.
SERVERS_MAX = 3
_HEAD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hostname_of(pod: Pod) -> str:
    """The pod's own, or made from its name."""
    return pod.hostname or re.sub(r"[^a-zA-Z0-9-]+", "-", pod.name)[:63].strip("-") or "pod"


def hosts(pod: Pod, place: Place) -> str:
    """/etc/hosts: the loopback, the pod, what it says itself."""
    own = "".join(f"{address}\t{hostname_of(pod)}\n" for address in place.addresses)
    return _HEAD + own + "".join(f"{alias.ip}\t{' '.join(alias.names)}\n" for alias in pod.host_aliases)


def hostname(pod: Pod) -> str:
    return hostname_of(pod) + "\n"


def resolv_conf(pod: Pod, place: Place) -> str:
    """/etc/resolv.conf: what the pod's networks say and then what the pod says, or that alone."""
    beside = pod.dns.policy == "default"
    servers = (place.dns_servers if beside else ()) + pod.dns.servers
    searches = (place.dns_searches if beside else ()) + pod.dns.searches
    options = _options((place.dns_options if beside else ()) + pod.dns.options)
    lines = [f"nameserver {server}" for server in list(dict.fromkeys(servers))[:SERVERS_MAX]]
    if searches:
        lines.append(f"search {' '.join(dict.fromkeys(searches))}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "".join(line + "\n" for line in lines)


def _options(found: tuple[str, ...]) -> list[str]:
    """What is said last of an option holds."""
    return list({option.partition(":")[0]: option for option in found}.values())
