"""Passwords of registries."""

import os
import sys

import click

from hyperctl import auth
from hyperctl.app import App, command, pass_app
from hyperctl.client import path
from hyperctl.errors import ApiError, CtlError
from hyperctl.output import out


@command("login", examples="hyperctl login\nhyperctl login -u me registry.example.org:5000\ncat secret | hyperctl login -u me --password-stdin registry.example.org")
@click.option("-u", "--username", help="Asked for where it is missing.")
@click.option("-p", "--password", help="Others can see it in the list of processes; better to be asked, or --password-stdin.")
@click.option("--password-stdin", is_flag=True, help="The password is what comes on stdin.")
@click.argument("registry", default="docker.io")
@pass_app
def login(app: App, registry: str, username: str | None, password: str | None, password_stdin: bool) -> None:
    """Check a name and a password with a registry and keep them where Docker does.

    The daemon keeps them as well, for the images that it gets when nobody is there to ask.
    """
    if password_stdin:
        if password or not username:
            raise click.UsageError("--password-stdin goes with -u and without -p", click.get_current_context())
        password = sys.stdin.read().rstrip("\r\n")
    user = username or click.prompt("Username", err=True)
    secret = password if password is not None else click.prompt("Password", hide_input=True, err=True)
    if not secret:
        raise CtlError(f"no password for {user} at {registry}")
    app.client.post("/auth", {"registry": registry, "username": user, "password": secret})
    where = auth.store(registry, user, secret, auth.config_path(dict(os.environ)))
    out(f"logged in to {registry} as {user}; kept in {where}")


@command("logout")
@click.argument("registry", default="docker.io")
@pass_app
def logout(app: App, registry: str) -> None:
    """Forget the password of a registry, here and in the daemon."""
    known = auth.forget(registry, auth.config_path(dict(os.environ)))
    try:
        app.client.delete(path("auth", registry))
    except ApiError as error:
        if error.status != 404:
            raise
    out(f"logged out of {registry}" if known else f"{registry}: not logged in")
