"""The pod that the options of ``run`` and ``create`` describe, as the API takes it. Pure, but for what names a file on this machine.

Fields are those of ``docs/pods.md``; what is not asked for is left out, so that the daemon's defaults hold.
"""

import os
import random
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from hyperctl.errors import CtlError
from hyperctl.humans import mebibytes, size, span_s

Fields = dict[str, Any]

_PROTOCOLS = ("tcp", "udp", "sctp")
_RESTART = {
    "no": "never", "never": "never", "onfailure": "on-failure", "on-failure": "on-failure", "always": "always", "unless-stopped": "unless-stopped",
}  # fmt: skip
_ENV_NAME = re.compile(r"[^=\0\s][^=\0]*")


class Place(NamedTuple):
    """``local``: paths that exist here exist for the daemon."""

    local: bool
    cwd: str
    environ: dict[str, str]
    read: Callable[[str], str]


def pod(options: Fields, image: str, args: Sequence[str], place: Place) -> Fields:
    """A pod of one container. ``options`` by the names of the flags. Raises CtlError."""
    volumes: list[Fields] = []
    name = options["name"] or generated_name(image)
    made: Fields = {"name": name}
    _put(made, "hostname", options["hostname"])
    _put(made, "labels", dict(_pair(text, "label") for text in options["label"]))
    _put(made, "vcpus", options["cpu"])
    if options["memory"]:
        made["memory_mib"] = mebibytes(options["memory"])
    made["containers"] = [container(options, image, args, place, volumes)]
    _put(made, "volumes", volumes)
    made |= _network(options)
    _put(made, "ports", [port for text in options["publish"] for port in published(text)])
    _put(made, "sysctls", dict(_pair(text, "sysctl") for text in options["sysctl"]))
    made |= restart(options["restart"])
    _put(made, "log", log(options["log_driver"], options["log_opt"], place))
    if options["stop_timeout"]:
        made["termination_grace_s"] = span_s(options["stop_timeout"], "stop timeout")
    return made


def container(options: Fields, image: str, args: Sequence[str], place: Place, volumes: list[Fields]) -> Fields:
    """A container; the volumes it mounts are added to ``volumes``. Raises CtlError."""
    entrypoint = options["entrypoint"]
    made: Fields = {"name": options.get("container_name") or base_name(image), "image": image}
    if entrypoint is not None:
        words = _words(entrypoint)
        # An empty one is none at all: the arguments are the command then.
        made |= {"command": [*words], "args": [*args]} if words else {"command": [*args]}
        if not made["command"]:
            raise CtlError("an empty entrypoint needs a command", hint="hyperctl run --entrypoint '' IMAGE COMMAND")
    elif args:
        made["args"] = [*args]
    _put(made, "pull", options["pull"])
    _put(made, "environment", environment(options["env_file"], options["env"], place))
    _put(made, "working_dir", options["workdir"])
    _put(made, "tty", options["tty"])
    _put(made, "stdin", options["interactive"] or options["tty"])
    # The end of our stdin is that of the process's. A terminal's stays open for who attaches next.
    _put(made, "stdin_once", options["interactive"] and not options["tty"] and not options.get("detach"))
    _put(made, "mounts", [mount(text, place, volumes) for text in options["volume"]] + [tmpfs(text, volumes) for text in options["tmpfs"]])
    _put(made, "resources", _resources(options))
    _put(made, "security", _security(options))
    _put(made, "ulimits", [ulimit(text) for text in options["ulimit"]])
    _put(made, "stop_signal", options["stop_signal"])
    made["healthcheck"] = healthcheck(options)
    if options["storage_size"]:
        made["root_size"] = size(options["storage_size"], "storage size")
    return made


def base_name(image: str) -> str:
    """A name that is a DNS label, of the last part of an image's."""
    last = image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:50] or "container"


def generated_name(image: str) -> str:
    """``busybox-4821903746``, as the original made them."""
    return f"{base_name(image)}-{random.SystemRandom().randrange(10**9, 10**10)}"


def environment(files: Iterable[str], given: Iterable[str], place: Place) -> list[list[str]]:
    """Pairs; a later one replaces an earlier one. A name alone takes the value that it has here, if it has one."""
    found: dict[str, str] = {}
    texts = [(line, name) for name in files for line in _env_lines(name, place)] + [(text, "--env") for text in given]
    for text, where in texts:
        name, equals, value = text.partition("=")
        if not _ENV_NAME.fullmatch(name):
            raise CtlError(f"{where}: {text!r}: a variable is written NAME=VALUE")
        if equals:
            found[name] = value
        elif name in place.environ:
            found[name] = place.environ[name]
    return [[name, value] for name, value in found.items()]


def published(text: str) -> list[Fields]:
    """Ports of ``[tcp:][ADDRESS:]HOST:CONTAINER[/tcp]``, also as ranges of the same length. Raises CtlError."""
    rest, protocol = text, ""
    first, colon, behind = rest.partition(":")
    if colon and first in _PROTOCOLS:
        protocol, rest = first, behind
    rest, slash, suffix = rest.partition("/")
    if slash:
        protocol = suffix
    address, host, inside = _port_parts(rest)
    if (protocol or "tcp") not in _PROTOCOLS or not inside:
        raise _bad_port(text)
    container_ports = _range(inside, text)
    host_ports = _range(host, text) if host else [0] * len(container_ports)
    if len(container_ports) == 1 < len(host_ports):
        container_ports *= len(host_ports)
    if len(host_ports) != len(container_ports):
        raise CtlError(f"port {text!r}: {len(host_ports)} ports for {len(container_ports)}")
    return [
        {"container_port": own, "host_port": outer}
        | ({"host_ip": address} if address else {})
        | ({"protocol": protocol} if protocol and protocol != "tcp" else {})
        for own, outer in zip(container_ports, host_ports, strict=True)
    ]


def mount(text: str, place: Place, volumes: list[Fields]) -> Fields:
    """``[SOURCE:]PATH[:OPTIONS]``: a folder or file of the host, a named volume, or one that ends with the pod. Raises CtlError."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise CtlError(f"volume {text!r}: not understood", hint="write HOST_PATH:PATH, NAME:PATH or PATH, and :ro for read-only")
    # PATH:ro has no source.
    if len(parts) == 2 and not parts[1].startswith("/") and parts[0].startswith("/"):
        source, path, flags = "", parts[0], parts[1]
    else:
        source, path, flags = (parts[0] if len(parts) > 1 else ""), parts[min(1, len(parts) - 1)], parts[2] if len(parts) > 2 else ""
    if not path.startswith("/"):
        raise CtlError(f"volume {text!r}: {path} is not a path from the root")
    mounted: Fields = {"volume": _volume(source, place, volumes), "path": path}
    for flag in filter(None, flags.split(",")):
        if flag not in ("ro", "rw", "rshared", "rslave", "z", "Z", "nocopy"):
            raise CtlError(f"volume {text!r}: unknown option {flag}", hint="there are ro and rw")
        _put(mounted, "read_only", flag == "ro")
        _put(mounted, "propagation", {"rshared": "bidirectional", "rslave": "host-to-container"}.get(flag, ""))
    return mounted


def tmpfs(text: str, volumes: list[Fields]) -> Fields:
    """``PATH[:size=SIZE]``, in the memory of the machine."""
    path, _, flags = text.partition(":")
    if not path.startswith("/"):
        raise CtlError(f"tmpfs {text!r}: {path!r} is not a path from the root")
    source: Fields = {"kind": "empty", "medium": "memory"}
    for flag in filter(None, flags.split(",")):
        name, _, value = flag.partition("=")
        if name == "size":
            source["size"] = size(value, "tmpfs size")
        elif name not in ("rw", "mode", "uid", "gid", "exec", "noexec", "nosuid", "nodev"):
            raise CtlError(f"tmpfs {text!r}: unknown option {name}")
    volumes.append({"name": f"tmpfs-{len(volumes)}", "source": source})
    return {"volume": volumes[-1]["name"], "path": path} | ({"read_only": True} if "ro" in flags.split(",") else {})


def restart(text: str | None) -> Fields:
    """The policy, also by Docker's and the original's names, and after a colon how often on-failure tries again. Raises CtlError."""
    if not text:
        return {}
    name, colon, number = text.partition(":")
    found = _RESTART.get(name.lower())
    if found is None or (colon and not number.isdecimal()):
        raise CtlError(f"restart policy {text!r}: not understood", hint="it is no, on-failure[:RETRIES], always or unless-stopped")
    if int(number or 0) and found != "on-failure":
        raise CtlError(f"restart policy {text!r}: only on-failure has a number of retries")
    return {"restart": found} | ({"restart_retries": int(number)} if int(number or 0) else {})


def healthcheck(options: Fields) -> Fields:
    """What is not said is the image's. Raises CtlError."""
    made: Fields = {}
    if options["health_cmd"]:
        made["test"] = ["CMD-SHELL", options["health_cmd"]]
    for name in ("interval", "timeout", "start_period", "start_interval"):
        if options[f"health_{name}"]:
            _put(made, f"{name}_s", span_s(options[f"health_{name}"], f"health {name.replace('_', ' ')}"))
    _put(made, "retries", options["health_retries"])
    if options["no_healthcheck"]:
        if made:
            raise CtlError("--no-healthcheck conflicts with --health-* options")
        made["test"] = ["NONE"]
    return made


def log(driver: str | None, given: Iterable[str], place: Place) -> Fields:
    """Where output goes. Raises CtlError."""
    made: Fields = {}
    _put(made, "driver", driver)
    for text in given:
        name, value = _pair(text, "log option")
        if name == "max-size":
            made["max_size"] = size(value, "max-size")
        elif name == "max-file" and value.isdecimal():
            made["max_files"] = int(value)
        elif name == "path":
            made["path"] = os.path.join(place.cwd, value)
        else:
            raise CtlError(f"log option {text!r}: not understood", hint="there are max-size, max-file and path")
    return made


def ulimit(text: str) -> Fields:
    """``nofile=1024[:2048]``; -1 is no limit."""
    name, value = _pair(text, "ulimit")
    soft, _, hard = value.partition(":")
    if not re.fullmatch(r"-1|\d+", soft) or not re.fullmatch(r"(-1|\d+)?", hard):
        raise CtlError(f"ulimit {text!r}: not understood", hint="write nofile=1024 or nofile=1024:2048")
    return {"name": name, "soft": int(soft), "hard": int(hard or soft)}


def _network(options: Fields) -> Fields:
    made: Fields = {}
    names = options["network"]
    if "none" in names:
        if len(names) > 1 or options["ip"] or options["mac"] or options["publish"]:
            raise CtlError("--network none goes with no other network, address or published port")
        made["interfaces"] = []
    elif names or options["ip"] or options["mac"] or options["network_alias"]:
        interfaces: list[Fields] = [{"network": name} for name in names or ["default"]]
        _put(interfaces[0], "addresses", list(options["ip"]))
        _put(interfaces[0], "mac", options["mac"])
        for interface in interfaces:
            _put(interface, "aliases", list(options["network_alias"]))
        made["interfaces"] = interfaces
    dns: Fields = {}
    for field, option in (("servers", "dns"), ("searches", "dns_search"), ("options", "dns_option")):
        _put(dns, field, list(options[option]))
    if options["dns"]:
        dns["policy"] = "none"  # these servers and no others
    _put(made, "dns", dns)
    aliases: dict[str, list[str]] = {}
    for text in options["add_host"]:
        name, colon, address = text.replace("=", ":", 1).partition(":")
        if not name or not colon or not address:
            raise CtlError(f"host {text!r}: not understood", hint="write NAME:ADDRESS")
        aliases.setdefault(address.strip("[]"), []).append(name)
    _put(made, "host_aliases", [{"ip": address, "names": names} for address, names in aliases.items()])
    return made


def _resources(options: Fields) -> Fields:
    made: Fields = {}
    _put(made, "cpus", options["cpus"])
    _put(made, "cpu_shares", options["cpu_shares"])
    _put(made, "pids", max(options["pids_limit"] or 0, 0))
    for field, option in (("memory", "memory_limit"), ("swap", "memory_swap")):
        if options[option]:
            made[field] = size(options[option], option.replace("_", " "))
    return made


def _security(options: Fields) -> Fields:
    made: Fields = {}
    _put(made, "user", options["user"])
    _put(made, "additional_groups", list(options["group_add"]))
    _put(made, "privileged", options["privileged"])
    _put(made, "read_only_root", options["read_only"])
    _put(made, "add_capabilities", [capability(name) for name in options["cap_add"]])
    _put(made, "drop_capabilities", [capability(name) for name in options["cap_drop"]])
    for text in options["security_opt"]:
        if text in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"):
            made["no_new_privileges"] = True
        elif text.replace("=", ":") == "seccomp:unconfined":
            made["seccomp"] = "unconfined"
        else:
            raise CtlError(f"security option {text!r}: not understood", hint="there are no-new-privileges and seccomp=unconfined")
    return made


def capability(name: str) -> str:
    """``NET_ADMIN``, as Kubernetes writes it."""
    return name.upper().removeprefix("CAP_")


def _volume(source: str, place: Place, volumes: list[Fields]) -> str:
    """The name of the pod's volume for a source; one is added where there is none yet."""
    if not source:
        made: Fields = {"kind": "empty"}
    elif source.startswith(("/", "./", "../", "~")) or source in (".", ".."):
        path = os.path.normpath(os.path.join(place.cwd, os.path.expanduser(source)))
        # A folder that is not there is made, as Docker does; what is there may be a file.
        missing = place.local and not os.path.exists(path)
        made = {"kind": "host", "path": path} | ({"type": "DirectoryOrCreate"} if missing else {})
    elif "/" in source:
        raise CtlError(f"volume '{source}': neither a volume's name nor a path", hint=f"a folder of the host is written ./{source}, or from the root")
    else:
        made = {"kind": "named", "name": source}
    for volume in volumes:
        if source and volume["source"] == made:
            return str(volume["name"])
    volumes.append({"name": f"volume-{len(volumes)}", "source": made})
    return str(volumes[-1]["name"])


def _port_parts(text: str) -> tuple[str, str, str]:
    """Address, port of the host, port of the container; an IPv6 address stands in brackets."""
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]:")
        host, colon, inside = rest.partition(":")
        return (address, host, inside) if bracket and colon else ("", "", "")
    parts = text.split(":")
    if len(parts) > 3:
        return "", "", ""
    padded = ["", "", *parts][-3:]
    return padded[0], padded[1], padded[2]


def _range(text: str, whole: str) -> list[int]:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise _bad_port(whole)
    low, high = int(first), int(last) if dash else int(first)
    if not 0 < low <= high < 65536:
        raise _bad_port(whole)
    return list(range(low, high + 1))


def _bad_port(text: str) -> CtlError:
    return CtlError(f"port {text!r}: not understood", hint="write HOST:CONTAINER, for instance 8080:80, 127.0.0.1:5353:53/udp or 8000-8010:8000-8010")


def _env_lines(name: str, place: Place) -> list[str]:
    lines = [line.strip() for line in place.read(name).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _pair(text: str, what: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or (not equals and what != "label"):
        raise CtlError(f"{what} {text!r}: it is written NAME=VALUE")
    return name, value


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise CtlError(f"entrypoint {text!r}: {error}") from None


def _put(fields: Fields, name: str, found: Any) -> None:
    """A field that was asked for."""
    if found:
        fields[name] = found
