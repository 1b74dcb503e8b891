"""``exec`` and ``attach``."""

from typing import Any

import click

from hyperctl import podspec
from hyperctl.app import POD_OR_CONTAINER, App, command, pass_app
from hyperctl.client import path
from hyperctl.commands.run import place_of
from hyperctl.errors import RUN_FAILED, ApiError, Exit
from hyperctl.names import container, find
from hyperctl.output import note, out
from hyperctl.stream import Session, Wanted, wants_input
from hyperctl.terminal import parse_keys

_detach_keys = click.option("--detach-keys", metavar="KEYS", help="What to press to leave it running. Default: ctrl-p,ctrl-q.")


def _keys(app: App, given: str | None) -> bytes:
    return parse_keys(app.settings.detach_keys if given is None else given)


@command(
    "exec",
    stop_at_argument=True,
    failure=RUN_FAILED,
    examples="""
    hyperctl exec -t web sh
    hyperctl exec web/nginx nginx -t
    hyperctl exec --vm web dmesg                 in the machine, outside any container
    cat dump.sql | hyperctl exec -i db psql
    """,
)
@click.option("-d", "--detach", is_flag=True, help="Start it and come back.")
@click.option("-t", "--tty", is_flag=True, help="A terminal for the process, with yours as its other side.")
@click.option("-i", "--interactive", is_flag=True, help="Send stdin, though it is no terminal.")
@click.option("-m", "--vm", is_flag=True, help="In the pod's machine, outside any container.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="A variable.")
@click.option("--env-file", multiple=True, metavar="FILE", help="Variables, one a line.")
@click.option("-w", "--workdir", help="Where the process starts.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Names or numbers.")
@click.option("--privileged", is_flag=True, help="All capabilities.")
@_detach_keys
@click.argument("name", type=POD_OR_CONTAINER)
@click.argument("args", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_app
def exec_(app: App, /, **given: Any) -> None:
    """Run one more process in a container that runs; of a pod in its first one. Ends with the exit code of the process.

    125 says that it could not be started, 126 that the program cannot be run and 127 that there is none.
    """
    client, tty = app.client, given["tty"]
    stdin = not given["detach"] and wants_input(tty, given["interactive"])
    body: dict[str, Any] = {"args": list(given["args"]), "tty": tty, "stdin": stdin, "detach": given["detach"]}
    environment = podspec.environment(given["env_file"], given["env"], place_of(client))
    for name, value in (("env", environment), ("cwd", given["workdir"]), ("user", given["user"]), ("privileged", given["privileged"])):
        if value:
            body[name] = value
    keys = _keys(app, given["detach_keys"])
    where = path("pods", given["name"], "exec-vm") if given["vm"] else f"{container(client, given['name']).where}/exec"
    made = client.post(where, body)
    if given["detach"]:
        out(str(made["id"]))
        return
    with client.websocket(path("execs", str(made["id"]), "attach")) as socket:
        outcome = Session(socket, Wanted(tty, stdin, keys)).run()
    raise Exit(outcome.code or 0)


@command("attach", examples="hyperctl attach web\nhyperctl attach --no-stdin web/nginx")
@click.option("--no-stdin", is_flag=True, help="Only look.")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Whether signals go to the process, where it has no terminal.")
@_detach_keys
@click.argument("name", type=POD_OR_CONTAINER)
@pass_app
def attach(app: App, name: str, no_stdin: bool, sig_proxy: bool, detach_keys: str | None) -> None:
    """Attach to the process of a container; of a pod to its first one. Ends with its exit code.

    The detach keys leave it running, where it has a terminal; elsewhere ctrl-c goes to the process.
    """
    client = app.client
    found = container(client, name)
    record = found.record if "tty" in found.record else find(client, str(found.record["id"]), ("containers",)).record
    if record.get("state") == "exited":
        raise ApiError("conflict", f"{name}: it has ended", hint=f"`hyperctl logs {name}` shows what it said")
    tty = bool(record.get("tty"))
    stdin = not no_stdin and (not tty or wants_input(tty, interactive=False))
    keys = _keys(app, detach_keys)
    def send(signal_name: str) -> None:
        client.post(f"{found.where}/kill", signal=signal_name)

    with client.websocket(f"{found.where}/attach", {"stdin": stdin, "stdout": True, "stderr": True}) as socket:
        outcome = Session(socket, Wanted(tty, stdin, keys, send if sig_proxy else None)).run()
    if outcome.code is None:
        note(f"hyperctl: left {name} running")
    raise Exit(outcome.code or 0)
