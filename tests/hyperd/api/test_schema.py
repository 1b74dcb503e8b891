"""The API against what is made up from its own description by schemathesis."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hyperd.config import Api

from .harness import POD, Site, serve

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# What waits, speaks websocket, or takes a tar file.
NOT_THOSE = "attach|port-forward|wait|events|images/(pull|push|load|save)|auth|archive"


@pytest.mark.soak
def test_what_is_made_up_from_the_description(tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]

    async def work(site: Site) -> None:
        await site.ask("POST", "/pods", {"spec": POD})
        program = [sys.executable, "-m", "schemathesis.cli"]
        process = await asyncio.create_subprocess_exec(
            *program, "run", f"http://127.0.0.1:{port}/v1/openapi.json", "--checks", CHECKS, "--max-examples", "20",
            "--exclude-path-regex", NOT_THOSE, "--phases", "fuzzing", "--seed", "1", "--no-color", "--request-timeout", "20", "--continue-on-failure",
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode(errors="replace")[-8000:]

    serve(tmp_path, work, Api(listen=f"127.0.0.1:{port}", plain_loopback=True), wait_s=1800)
