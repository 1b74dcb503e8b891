"""The client for unix sockets that containers run (relay_client.c), built once: busybox's nc speaks to none."""

from __future__ import annotations

import subprocess
from pathlib import Path


def build_client(folder: Path) -> Path:
    """The program, static."""
    program = folder / "client"
    source = Path(__file__).with_name("relay_client.c")
    subprocess.run(["gcc", "-static", "-Os", "-Wall", "-Werror", "-o", program, source], check=True)
    return program
