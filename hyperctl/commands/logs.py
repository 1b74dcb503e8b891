"""What containers have written, and what happens in the daemon."""

from typing import Any

import click

from hyperctl import terminal
from hyperctl.app import POD_OR_CONTAINER, App, command, format_option, now, pass_app
from hyperctl.humans import moment
from hyperctl.names import container
from hyperctl.output import clean, out, value

_since = click.option("--since", metavar="TIME", help="Not what is older: 10m, a date and time, or seconds since 1970.")
_until = click.option("--until", metavar="TIME", help="Not what is newer.")


def _moment(text: str | None) -> str | None:
    return moment(text, now()) if text else None


@command("logs", examples="hyperctl logs -f web\nhyperctl logs --since 10m --timestamps web/nginx\nhyperctl logs --tail 100 --stderr web")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until the container has ended.")
@_since
@_until
@click.option("-n", "--tail", metavar="N", help="Only the last lines.")
@click.option("-t", "--timestamps", is_flag=True, help="Before each line the time at which it was written.")
@click.option("--stdout", "only_stdout", is_flag=True, help="Only what went to stdout.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Only what went to stderr.")
@click.argument("name", type=POD_OR_CONTAINER)
@pass_app
def logs(app: App, name: str, follow: bool, since: str | None, until: str | None, tail: str | None, timestamps: bool, only_stdout: bool, only_stderr: bool) -> None:  # fmt: skip
    """What a container has written; of a pod its first one. stdout goes to stdout and stderr to stderr."""
    if tail is not None and tail != "all" and not tail.isdecimal():
        raise click.UsageError(f"--tail {tail}: it is a number or all", click.get_current_context())
    both = only_stdout == only_stderr
    query = {
        "follow": follow,
        "since": _moment(since),
        "until": _moment(until),
        "tail": None if tail == "all" else tail,
        "timestamps": timestamps,
        "stdout": None if both or only_stdout else "0",
        "stderr": None if both or only_stderr else "0",
    }
    where = f"{container(app.client, name).where}/logs"
    with app.client.lines("GET", where, query=query, forever=follow) as lines:
        for line in lines:
            _write(line, timestamps)


def _write(line: dict[str, Any], timestamps: bool) -> None:
    """As it was written: also what is no whole line, and colours."""
    text = str(line.get("text", ""))
    stamp = f"{line.get('time', '')} " if timestamps else ""
    end = "" if text.endswith("\n") or line.get("partial") else "\n"
    terminal.write(2 if line.get("stream") == "stderr" else 1, f"{stamp}{text}{end}".encode(errors="surrogateescape"))


@command("events", examples="hyperctl events\nhyperctl events --since 1h --filter type=container --no-follow")
@_since
@_until
@click.option("--follow/--no-follow", default=True, help="Whether to go on with what happens from now on.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="NAME=VALUE", help="Only such: type, action, pod, name.")
@format_option
@pass_app
def events(app: App, since: str | None, until: str | None, follow: bool, filters: tuple[str, ...], kind: str | None) -> None:
    """What happens to pods, containers, images, volumes and networks. ctrl-c ends it."""
    query = {"since": _moment(since), "until": _moment(until), "follow": follow and not until, "filter": list(filters)}
    with app.client.lines("GET", "/events", query=query, forever=True) as lines:
        for event in lines:
            if kind and kind != "table":
                _structured(event, kind)
            else:
                out(clean(_sentence(event)))
            _flush()


def _structured(event: dict[str, Any], kind: str) -> None:
    if kind == "json":  # one a line, as it is a stream
        import json

        out(json.dumps(event, ensure_ascii=False))
    else:
        value([event] if kind == "yaml" else event, kind)


def _sentence(event: dict[str, Any]) -> str:
    attributes = " ".join(f"{name}={text}" for name, text in (event.get("attributes") or {}).items())
    words = (event.get("time"), event.get("type"), event.get("action"), event.get("name") or event.get("id"), f"({attributes})" if attributes else "")
    return " ".join(str(word) for word in words if word)


def _flush() -> None:
    import sys

    sys.stdout.flush()
