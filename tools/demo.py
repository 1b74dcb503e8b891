#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""``make run``: start hyperd where none runs, and run containers in machines of their own.

Arguments: the folder of the programs, and one to keep things in. hyperd is left running, so that one can go on typing.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

IMAGE = "share/runv/busybox.tar"
START_TIMEOUT_S = 60
HOLD = ["sleep", "3600"]


def command(programs: Path, *argv: str) -> int:
    """Runs hyperctl, shown as it would be typed."""
    print(f"$ {shlex.join(['hyperctl', *argv])}", flush=True)
    return subprocess.run([programs / "hyperctl", *argv], check=False).returncode


def quietly(programs: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([programs / "hyperctl", *argv], capture_output=True, text=True, check=False)


def is_running(programs: Path) -> bool:
    return quietly(programs, "version").returncode == 0


def start_daemon(programs: Path, folder: Path) -> str:
    """A daemon that outlives us. Says how it is ended; empty where it does not start."""
    log = folder / "hyperd.log"
    environ = os.environ | {"PATH": f"{programs}:{os.environ.get('PATH', '')}"}
    with log.open("ab") as output:
        daemon = subprocess.Popen([programs / "hyperd"], env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    print(f"$ hyperd >>{log} 2>&1 &", flush=True)
    end = time.monotonic() + START_TIMEOUT_S
    while daemon.poll() is None and time.monotonic() < end:
        if is_running(programs):
            return f"kill {daemon.pid}"
        time.sleep(0.1)
    if daemon.poll() is None:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
    print(f"hyperd does not start; the end of {log}:\n" + "\n".join(log.read_text().splitlines()[-20:]), file=sys.stderr)
    return ""


def load_image(programs: Path) -> int:
    """Debian's busybox as an image, so that no registry is needed."""
    if quietly(programs, "inspect", "--type", "image", "busybox").returncode == 0:
        return 0
    return command(programs, "load", str(programs.parent / IMAGE))


def tour(programs: Path) -> int:
    """The two commands that everybody types first."""
    status = command(programs, "run", "-t", "--rm", "busybox", "echo", "helloworld")
    if status:
        return status
    pod = f"demo-{os.getpid()}"
    status = command(programs, "run", "-d", "--name", pod, "busybox", *HOLD)
    try:
        return status or command(programs, "exec", "-t", pod, "uname", "-r")
    finally:
        command(programs, "rm", "-f", pod)


def main() -> int:
    """Entry point."""
    programs, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    ending = ""
    if not is_running(programs):
        ending = start_daemon(programs, folder)
        if not ending:
            return 1
    status = load_image(programs) or tour(programs)
    if status == 0:
        print(f"this host's kernel: {os.uname().release}")
    if ending:
        print(f"hyperd goes on running, and hyperctl is in {programs}; `{ending}` ends it")
    return status


if __name__ == "__main__":
    sys.exit(main())
