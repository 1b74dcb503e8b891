"""The command ``hyperd``: the daemon itself, its settings, and certificates for TCP."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from hyperd import config as settings
from hyperd.errors import HyperError
from runv import VERSION

_FAILED = 1


class _Group(click.Group):
    """Errors of ours are one line, with the next step to take."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except HyperError as error:
            click.echo(f"hyperd: {error.message}", err=True)
            if error.hint:
                click.echo(f"hint: {error.hint}", err=True)
            context.exit(_FAILED)


@click.group(cls=_Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "path", metavar="FILE", default="", help=f"Settings (default: {settings.CONFIG_PATH}, if it is there).")
@click.option("--socket", metavar="PATH", default="", help="The unix socket to listen on, instead of the settings'.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Instead of the settings'.")
@click.option("--stop-pods", is_flag=True, help="Stop the pods when the daemon is told to end, instead of leaving them running.")
@click.version_option(VERSION, prog_name="hyperd", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context, path: str, socket: str, log_level: str | None, stop_pods: bool) -> None:
    """Keep pods, images, volumes and networks.

    SIGTERM ends the daemon and leaves pods running; the next one takes them over.
    """
    context.obj = path
    if context.invoked_subcommand is not None:
        return
    config = settings.load(path)
    if socket:
        config = msgspec.structs.replace(config, api=msgspec.structs.replace(config.api, socket=os.path.abspath(socket)))
    if log_level is not None:
        config = msgspec.structs.replace(config, log_level=log_level)
    from hyperd import daemon, journal

    journal.set_up(config.log_level)
    asyncio.run(daemon.serve(config, stop_pods=stop_pods))


@main.group("config")
def config_group() -> None:
    """Check and show the settings."""


@config_group.command("check")
@click.argument("file", default="")
@click.pass_obj
def config_check(path: str, file: str) -> None:
    """Say whether FILE, or the settings' file, can be used."""
    config = settings.load(file or path)
    for sentence in settings.check_host(config, file or path or settings.CONFIG_PATH):
        click.echo(f"note: {sentence}", err=True)
    click.echo(f"{file or path or settings.CONFIG_PATH}: in order")


@config_group.command("show")
@click.pass_obj
def config_show(path: str) -> None:
    """Show all settings that are in force, as TOML."""
    click.echo(settings.as_toml(settings.load(path)), nl=False)


@main.group("cert")
def cert_group() -> None:
    """Make certificates for TCP."""


_FOLDER = click.option("--dir", "folder", default="/etc/hyperd/tls", show_default=True, help="Where they are kept.")


@cert_group.command("init")
@_FOLDER
@click.option("--name", default="hyperd", show_default=True, help="What the authority is called.")
@click.option("--host", "hosts", multiple=True, help="A name or address of this host.")
def cert_init(folder: str, name: str, hosts: tuple[str, ...]) -> None:
    """Make an authority, a certificate for this server, and one for a client."""
    from hyperd import certificates

    where = Path(folder).absolute()
    names = hosts or (os.uname().nodename, "localhost", "127.0.0.1", "::1")
    certificates.check_hosts(names)
    certificates.make_authority(where, name)
    certificates.issue(where, "server", "server", names)
    certificates.issue(where, "client", "client")
    click.echo(f"{folder}: ca.pem, server.pem and client.pem with their keys. In the settings:\n")
    lines = {"certificate": "server.pem", "key": "server-key.pem", "authority": "ca.pem"}
    click.echo("[api.tls]\n" + "\n".join(f'{key} = "{where / file}"' for key, file in lines.items()))


@cert_group.command("issue")
@_FOLDER
@click.option("--server", is_flag=True, help="For a server; else it is for a client.")
@click.option("--host", "hosts", multiple=True, help="With --server: a name or address of it.")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3650), help="How long it is good.")
@click.argument("name")
def cert_issue(folder: str, server: bool, hosts: tuple[str, ...], days: int, name: str) -> None:
    """Make one more certificate, called NAME."""
    from hyperd import certificates

    certificate, key = certificates.issue(Path(folder), "server" if server else "client", name, hosts, days)
    click.echo(f"{certificate}\n{key}")


@main.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell. For this one: `source <(hyperd completion bash)`. An installation brings all three where the shells look for them."""
    click.echo(completion_script(shell))


def completion_script(shell: str) -> str:
    """What a shell sources: click's own script, which asks hyperd itself."""
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(shell)
    # bash's own class would run bash to see how old it is, and there need be none where the script is made.
    return ShellComplete.source(kind(main, {}, "hyperd", "_HYPERD_COMPLETE"))


def run() -> None:
    """Entry point."""
    sys.exit(main(prog_name="hyperd"))
