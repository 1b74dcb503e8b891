"""hyperd's page of the manual, made of its commands and settings. Pure: roff as man(7) has it."""

import inspect
from collections.abc import Iterator

import click
import msgspec

from hyperd import config as settings
from hyperd.cli import main
from runv.cli.manual import escape
from runv.cli.roff import head, options, paragraphs, rows

SECTION = 8

_DESCRIPTION = """\
hyperd keeps pods, images, volumes and networks, and answers hyperctl and whoever speaks its HTTP API. Each pod has a virtual machine of its own, which the command runv makes.

The daemon owns what is wanted; nothing that runs depends on it. When it ends, is killed or replaced, pods run on, and the next one takes them over without losing a line of a log.

Who may use its socket is root on the host: they may mount any directory into a pod. They are root, the daemon's own user, and the members of the group of the setting api.group."""

_SIGNALS = (
    ("SIGTERM, SIGINT", "The daemon ends and leaves pods running; with --stop-pods it stops them first."),
    ("SIGKILL", "The same without a word. The next daemon finds what was half done, and finishes or removes it."),
)
# Every setting by its name in the file; the defaults come from the settings themselves.
SETTINGS = {
    "root": "What stays when the host is started anew: database, images, volumes, disks, logs.",
    "state": "What ends with the host: socket, bundles, the state of the runtime.",
    "runv": "The program; empty: the one installed beside hyperd.",
    "monitor": "The program runv-monitor; empty: the one installed beside hyperd.",
    "log_level": "debug, info, warning or error. debug has every request.",
    "root_size_mib": "Size of a container's writable layer where it does not say; sparse.",
    "machine_image": "Whose programs `hyperctl exec --vm` finds.",
    "create_parallel": "Machines and containers that are made at once.",
    "ready_machines": "Machines that wait for pods of the usual size. Each takes the memory of one that does nothing.",
    "secrets_key": "The file of the key that secrets are sealed with; empty: secrets.key below root. It is made where it is missing.",
    "kept_events": "Events that are remembered.",
    "api.socket": "The unix socket, mode 0660.",
    "api.group": "Its group.",
    "api.listen": "HOST:PORT for TCP.",
    "api.plain_loopback": "Allow TCP without TLS on a loopback address: every user of the host gets in there.",
    "api.max_body_mib": "The largest request.",
    "api.max_streams": "Streams that may be open at once.",
    "api.tls.certificate": "What TCP clients are shown.",
    "api.tls.key": "Its key.",
    "api.tls.authority": "Whose certificates clients must show.",
    "restart.base_s": "The pause before a container is started again, doubled each time.",
    "restart.limit_s": "The longest pause.",
    "restart.reset_s": "After so long a run the pause is forgotten.",
    "timeouts.create_s": "How long the making of a machine may take.",
    "timeouts.command_s": "How long any other call of the runtime may take.",
    "machines.vcpus_max": "Virtual CPUs that the machine of a pod can grow to, and no more than the host has; 0: it does not grow.",
    "machines.memory_max_mib": "The same of its memory.",
    "images.mirrors": "By registry: those that are asked before it.",
    "images.insecure": "Registries that are spoken to by HTTP, or whose certificates are not checked.",
    "network.enabled": "false: pods have a loopback alone.",
    "network.instance": "Keeps several daemons on one host apart.",
    "network.bridge": "The bridge of the default network.",
    "network.subnet": "The subnet of the default network.",
    "network.pool": "What the subnets of other networks are taken from.",
    "network.ipv6": "Whether networks have IPv6.",
    "network.domain": "The domain of the names of pods.",
    "network.resolvers": "Whom names are asked that are no pod's; empty: those of the host.",
    "network.packet_filter": "false: no rules of nftables are made.",
    "network.allow_in_docker": "Have the packets of pods pass Docker's firewall.",
    "network.mark": "The bit by which other firewalls know packets that ours lets through.",
}  # fmt: skip
_FILES = (
    (settings.CONFIG_PATH, "Settings, in TOML; --config names another file."),
    ("/etc/hyperd/tls", "Certificates that `hyperd cert` makes."),
    ("/var/lib/hyperd", "The setting root."),
    ("/run/hyperd", "The setting state; hyperd.sock is the socket."),
)
_STATUS = (
    ("0", "It was done."),
    ("1", "It was not, and a line on the standard error says why."),
    ("2", "The command line is wrong."),
)


def pages() -> dict[str, str]:
    """The page by its file name."""
    context = click.Context(main, info_name="hyperd")
    lines = [*head("hyperd", SECTION, "keep pods, images, volumes and networks"), ".SH SYNOPSIS", ".B hyperd", "[\\fIoptions\\fR] [\\fIcommand\\fR]"]
    lines += [".SH DESCRIPTION", *paragraphs(_DESCRIPTION), *options(context), ".SH COMMANDS", "Without a command it is the daemon."]
    for words, inner in commands():
        usage = " ".join(inner.command.collect_usage_pieces(inner))
        lines += [f".SS hyperd {escape(' '.join(words))} {escape(usage)}", *paragraphs(inspect.cleandoc(inner.command.help or "")), *options(inner, "")]
    lines += [".SH SIGNALS", *rows(_SIGNALS), ".SH SETTINGS", "A table of the file stands before the dot: socket below [api] is api.socket. Unknown keys are errors."]
    for name, default in defaults():
        lines += [".TP", f"\\fB{escape(name)}\\fR = {escape(default)}", escape(SETTINGS.get(name, ""))]
    for heading, entries in (("FILES", _FILES), ("EXIT STATUS", _STATUS)):
        lines += [f".SH {heading}", *rows(entries)]
    return {f"hyperd.{SECTION}": "\n".join([*lines, ".SH SEE ALSO", ".BR hyperctl (1),", ".BR runv (8)"]) + "\n"}


def commands() -> Iterator[tuple[tuple[str, ...], click.Context]]:
    """Every command that is no group, with the words that call it."""
    yield from _below((), click.Context(main, info_name="hyperd"))


def _below(words: tuple[str, ...], context: click.Context) -> Iterator[tuple[tuple[str, ...], click.Context]]:
    command = context.command
    if not isinstance(command, click.Group):
        yield words, context
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is not None:
            yield from _below((*words, name), click.Context(inner, info_name=name, parent=context))


def defaults() -> Iterator[tuple[str, str]]:
    """Every setting with its default as TOML, in the order of the file."""
    yield from _flat(msgspec.to_builtins(settings.Config()), "")


def _flat(values: dict[str, object], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, msgspec.json.encode(value).decode()
