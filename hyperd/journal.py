"""The daemon's log: one JSON object a line, on standard error."""

import logging
import sys
import time

import msgspec

# What every record has; all else was given by ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """``time``, ``level``, ``logger``, ``message``, and what the call added."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        document = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(document, enc_hook=str).decode()


def set_up(level: str) -> None:
    """From now on, for everybody."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What libraries say in detail is about themselves.
    for name in ("asyncio", "aiohttp", "pyroute2"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # It is told of requests that are no HTTP, with a trace each: whoever can connect could fill the log. Mistakes of ours are logged by the API.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
