"""Reaching the agent of a sandbox that runs already."""

import time

from runv.agent.carrier import Carrier
from runv.agent.client import Agent
from runv.errors import AgentLostError, StateError
from runv.sandbox.layout import SandboxFolder, SandboxRecord

CONNECT_TIMEOUT_S = 10.0


def carrier_of(sandbox: SandboxFolder, record: SandboxRecord) -> Carrier:
    """How the agent of ``sandbox`` is reached."""
    return Carrier(record.transport, cid=record.cid, path=sandbox.path("agent.sock"))


def connect(sandbox: SandboxFolder, timeout_s: float = CONNECT_TIMEOUT_S) -> Agent:
    """:raise AgentLostError: the sandbox has ended, or its agent does not answer within ``timeout_s``
    :raise StateError: its machine stands still
    """
    record = sandbox.load()
    if not sandbox.alive():
        raise AgentLostError("the container's sandbox has ended")
    if sandbox.paused():
        raise StateError("the container's machine is paused", hint="`runv resume --vm` lets it go on")
    return Agent(carrier_of(sandbox, record), record.secret, time.monotonic() + timeout_s, sandbox.alive)
