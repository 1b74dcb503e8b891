"""For all tests alike."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # What a shell starts in the background ignores these, and so would every program that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
