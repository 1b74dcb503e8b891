"""What shells source: click's own scripts. They ask hyperctl itself, which knows commands, options and, from the daemon, names."""

from click.shell_completion import ShellComplete, get_completion_class

VARIABLE = "_HYPERCTL_COMPLETE"


def script(shell: str) -> str:
    """The script of ``bash``, ``zsh`` or ``fish``."""
    from hyperctl.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(shell)
    # bash's own class would run bash to see how old it is, and there need be none where the script is made.
    return ShellComplete.source(kind(cli, {}, "hyperctl", VARIABLE))
