"""What the command writes for its caller to read: ``--log`` and ``--log-format``, as runc writes them.

containerd takes the last line with ``"level":"error"`` of the file, Podman the whole file as one object: so by default one line is written, and only on failure.
"""

import os
import sys
import time

_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class Log:
    """Where messages go. ``path`` empty: to stderr. ``kind``: ``text`` or ``json``."""

    def __init__(self, path: str = "", kind: str = "text", *, debug: bool = False) -> None:
        self.path = path
        self.kind = kind
        self.verbose = debug

    def debug(self, message: str) -> None:
        """A line for those who asked with ``--debug``."""
        if self.verbose:
            self._write("debug", message)

    def warning(self, message: str) -> None:
        """Something is not as asked, and the work went on."""
        self._write("warning", message)

    def error(self, message: str) -> None:
        """The one line that says why the command failed; with ``--log`` it goes to stderr as well, plainly."""
        self._write("error", message)
        if self.path:
            _stderr(message + "\n")

    def _write(self, level: str, message: str) -> None:
        line = self._line(level, message)
        if not self.path:
            _stderr(line)
            return
        try:
            fd = os.open(self.path, _FILE_FLAGS, 0o644)
        except OSError as error:
            _stderr(f"cannot write log {self.path}: {error.strerror}\n")
            return
        try:
            os.write(fd, line.encode(errors="surrogateescape"))
        finally:
            os.close(fd)

    def _line(self, level: str, message: str) -> str:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.kind == "json":
            import json

            return json.dumps({"level": level, "msg": message, "time": now}) + "\n"
        quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'time="{now}" level={level} msg="{quoted}"\n'


def _stderr(text: str) -> None:
    # The write may fail when the caller has closed our stderr; there is nobody left to tell then.
    try:
        os.write(sys.stderr.fileno() if sys.stderr else 2, text.encode(errors="surrogateescape"))
    except OSError:
        return
