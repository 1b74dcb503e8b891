"""``python -m hyperd``."""

from hyperd.cli import run

run()
