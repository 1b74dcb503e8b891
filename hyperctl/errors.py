"""What goes wrong, and the status the command ends with. Only ``main`` prints and exits."""

FAILED = 1
USAGE = 2
RUN_FAILED = 125
CANNOT_RUN = 126
NOT_FOUND = 127
UNREAD = 141


class CtlError(Exception):
    """One line for the user. ``hint``: the next step to take, or empty. ``exit_code`` None: that of the command for a failure."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class ConnectError(CtlError):
    """The daemon cannot be reached."""


class ApiError(CtlError):
    """The daemon's answer to a request that it did not fulfil. ``status`` is that of HTTP, 0 where it came within a stream."""

    def __init__(self, kind: str, message: str, *, status: int = 0, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message, hint=hint, exit_code=exit_code)
        self.kind = kind
        self.status = status


class Exit(Exception):  # noqa: N818 - not an error
    """The command ends with a status and has said what there was to say."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Unread(Exit):
    """Nobody reads the output any more. The status is the one that a shell has of a program that SIGPIPE ended."""

    def __init__(self) -> None:
        super().__init__(UNREAD)
