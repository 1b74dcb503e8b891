"""The update of limits, as far as a host without controllers of its own for version 2 can show."""

from __future__ import annotations

import pytest

from .client import AgentError
from .harness import Guest, oci_spec


def test_nothing_to_change(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        assert guest.control.call("update", container="c", resources={}) == {}
        assert guest.control.call("update", container="c", resources={"memory": {"limit": 0}, "cpu": {}}) == {}


@pytest.mark.parametrize(
    ("resources", "kind"),
    [
        (None, "invalid"),
        ({"memory": {"limit": "1"}}, "invalid"),
        ({"unified": {"../cgroup.procs": "1"}}, "invalid"),
        ({"unified": {"nonesuch.max": "1"}}, "unsupported"),
        ({"memory": {"swap": 5}}, "invalid"),
    ],
)
def test_refusals(guest: Guest, resources: object, kind: str) -> None:
    with guest.running("sleep", "100"):
        with pytest.raises(AgentError) as caught:
            guest.control.call("update", container="c", resources=resources)
        assert caught.value.kind == kind


def test_of_nobody(guest: Guest) -> None:
    with pytest.raises(AgentError) as caught:
        guest.control.call("update", container="c", resources={})
    assert caught.value.kind == "not-found"


def test_of_one_that_waits(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("true"))
    assert guest.control.call("update", container="c", resources={"unified": {"cgroup.max.depth": "7"}}) == {}
    assert guest.finish("c", "init").result == {"exit": 0}
    guest.control.call("delete", container="c")
