"""The exception tree. Nothing else of runv's is imported here.

::

    RunvError                 what the user is told: one sentence, naming the object, the cause last
    +-- UsageError            the command line is wrong
    +-- ConfigError           config.json, process.json or runv's own settings are wrong
    +-- StateError            not now: the container is in the wrong state
    |   +-- NotFoundError     there is no such container
    |   +-- ExistsError       the id is taken
    +-- HostError             the host's kernel said no
    +-- VmError               QEMU did not do what it was asked
    |   +-- BootError         the guest did not come up; carries the end of its console
    +-- AgentError            the guest's agent answered with an error (``kind`` of docs/agent-protocol.md)
    +-- AgentLostError        the connection to the agent ended, or a deadline passed
"""

import os

# runc and its callers compare these texts in lower case (Docker makes exit codes 126 and 127 of them).
_KEEP_CASE = ("I/O", "RFS", "SRM", "XENIX")


def reason(error: OSError) -> str:
    """The kernel's word for ``error``, spelled as runc does: ``no such file or directory``."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text if text.startswith(_KEEP_CASE) else text[:1].lower() + text[1:]


class RunvError(Exception):
    """One sentence for the user. ``hint`` is a second one that says what to do, where there is something to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(RunvError):
    """The command line is wrong. ``command`` names the command whose usage helps."""

    def __init__(self, message: str, *, command: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.command = command


class ConfigError(RunvError):
    """A file that describes what is wanted is wrong; the message has the JSON path."""


class StateError(RunvError):
    """The operation does not fit the state of the container."""


class NotFoundError(StateError):
    """There is no such container."""


class ExistsError(StateError):
    """The id is in use."""


class HostError(RunvError):
    """A system call on the host failed. ``errno`` is the kernel's."""

    def __init__(self, action: str, error: OSError, *, hint: str = "") -> None:
        super().__init__(f"cannot {action}: {reason(error)}", hint=hint)
        self.errno = error.errno


class VmError(RunvError):
    """QEMU could not be started, or refused a command."""


class BootError(VmError):
    """The guest did not answer in time, or ended before it did."""


class AgentError(RunvError):
    """The agent refused. ``kind`` and ``errno`` are those of docs/agent-protocol.md."""

    def __init__(self, kind: str, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.errno = errno


class AgentLostError(RunvError):
    """The agent cannot be reached: the machine is gone, or it did not answer before the deadline."""
