"""The flags of ``checkpoint`` and ``restore``: runc's, most of which are CRIU's."""

import os

from runv.cli.parse import Parsed
from runv.errors import ConfigError, UsageError
from runv.sandbox.process import Options
from runv.sandbox.saved.restore import Request

# What CRIU does and a machine cannot: each with the reason.
_REFUSED = {
    "parent-path": "a machine is saved whole, and not as the difference to another checkpoint",
    "pre-dump": "a machine is saved at once, and not bit by bit",
    "page-server": "a machine is saved to a folder",
    "status-fd": "no pages are left to be fetched later",
    "lazy-pages": "a machine is saved and restored whole",
    "auto-dedup": "a checkpoint has no parents",
    "lsm-profile": "the guest has no profiles of a security module",
    "lsm-mount-context": "the guest has no labels of a security module",
}


def image_path(parsed: Parsed) -> str:
    """The folder of the checkpoint.

    :raise ConfigError: a flag asks for what a machine cannot do
    """
    for name, why in _REFUSED.items():
        if parsed.flags.get(name):
            raise ConfigError(f"cannot {parsed.command.name if parsed.command else ''} with --{name}: {why}")
    return os.path.abspath(parsed.text("image-path") or "checkpoint")


def request_of(parsed: Parsed) -> Request:
    """What ``restore`` is to restore.

    :raise ConfigError: as of ``image_path``
    :raise UsageError: a flag is no pair of an id and a folder
    """
    bundles = {}
    for pair in parsed.many("member"):
        name, sign, folder = pair.partition("=")
        if not name or not sign or not folder:
            raise UsageError(f"--member {pair}: must be ID=FOLDER")
        bundles[name] = os.path.abspath(folder)
    return Request(image_path(parsed), parsed.text("from"), bundles)


def options_of(parsed: Parsed) -> Options:
    """Where the container's bundle is, and its terminal goes."""
    pid_file, console = parsed.text("pid-file"), parsed.text("console-socket")
    return Options(
        bundle=os.path.abspath(parsed.text("bundle") or "."),
        pid_file=os.path.abspath(pid_file) if pid_file else "",
        console_socket=os.path.abspath(console) if console else "",
        foreground=not parsed.on("detach"),
        systemd_cgroup=bool(parsed.globals["systemd-cgroup"]) or parsed.globals["cgroup-manager"] == "systemd",
    )
