"""The daemon as a whole, and hyperctl itself."""

from typing import Any

import click

from hyperctl.app import App, command, format_option, pass_app
from hyperctl.errors import CtlError
from hyperctl.humans import show_size
from hyperctl.output import out, value
from runv import VERSION


@command("version", examples="hyperctl version\nhyperctl version --format '{{.Server.Version}}'")
@format_option
@pass_app
def version(app: App, kind: str | None) -> None:
    """Versions of hyperctl and of the daemon."""
    found: dict[str, Any] = {"client": {"version": VERSION, "api": "v1"}, "server": None}
    failure: CtlError | None = None
    try:
        found["server"] = app.client.get("/version")
    except CtlError as error:
        failure = error
    if kind and kind != "table":
        value(found, kind)
    else:
        out(f"hyperctl  {VERSION}")
        if found["server"]:
            out(f"hyperd    {found['server'].get('version', '?')}")
            for name, text in found["server"].items():
                if name != "version":
                    out(f"  {name:<8}{text}")
    if failure is not None:
        raise failure


@command("info")
@format_option
@pass_app
def info(app: App, kind: str | None) -> None:
    """About the daemon, its host, and how much there is of everything."""
    found = app.client.get("/info")
    if kind and kind != "table":
        value(found, kind)
    else:
        _tree(found, "")


def _tree(found: dict[str, Any], indent: str) -> None:
    for name, entry in found.items():
        title = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(entry, dict):
            out(title)
            _tree(entry, indent + "  ")
        else:
            text = ", ".join(map(str, entry)) if isinstance(entry, list) else str(entry).lower() if isinstance(entry, bool) else str(entry)
            out(f"{title} {text}")


@command("prune", examples="hyperctl prune\nhyperctl prune -f --all --volumes")
@click.option("-a", "--all", "everything", is_flag=True, help="Also images that have a name.")
@click.option("--volumes", is_flag=True, help="Also volumes that no pod refers to.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_app
def prune(app: App, everything: bool, volumes: bool, force: bool) -> None:
    """Remove pods that have ended, networks that no pod is in, and images that nothing uses."""
    if not force:
        what = ["pods that have ended", "networks that no pod is in", "images that nothing uses" if everything else "images without a name"]
        click.confirm(f"Remove all {', '.join(what + ['volumes that no pod refers to'] * volumes)}?", abort=True, err=True)
    done = app.client.post("/prune", {"all": everything, "volumes": volumes}) or {}
    for kind in ("pods", "networks", "images", "volumes"):
        for name in done.get(kind) or []:
            out(f"{kind.removesuffix('s')} {name}")
    out(f"{show_size(done.get('freed') or 0)} freed")


@command("completion", examples="hyperctl completion bash >/etc/bash_completion.d/hyperctl\nhyperctl completion fish | source")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options and names. `make install` puts it in place."""
    from hyperctl.completion import script

    out(script(shell).rstrip("\n"))


@command("help")
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, names: tuple[str, ...]) -> None:
    """The help of a command."""
    at = ctx.parent or ctx
    found: click.Command = at.command
    for name in names:
        inner = found.get_command(at, name) if isinstance(found, click.Group) else None
        if inner is None:
            raise click.UsageError(f"there is no command {' '.join(names)!r}", at)
        found, at = inner, click.Context(inner, info_name=name, parent=at, **inner.context_settings)
    out(found.get_help(at))
