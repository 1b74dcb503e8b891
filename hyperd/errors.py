"""What goes wrong, by what the client can do about it. Only the API turns these into status codes, and only the command prints them."""


class HyperError(Exception):
    """The root of the tree. ``hint``: the next step to take, or empty.

    ``kind`` and ``status`` are what the API answers with.
    """

    kind = "internal"
    status = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidError(HyperError):
    """The request cannot be right, whatever the state is. Nothing was made."""

    kind = "invalid"
    status = 400


class DeniedError(HyperError):
    """Who asks may not."""

    kind = "denied"
    status = 403


class MissingError(HyperError):
    """There is no such thing."""

    kind = "missing"
    status = 404


class ConflictError(HyperError):
    """It is in use, exists already, or is in a state that does not allow it."""

    kind = "conflict"
    status = 409


class UnavailableError(HyperError):
    """Something that this host does not own did not do its part: a registry, a full disk, a machine that does not start."""

    kind = "unavailable"
    status = 503
