"""The operation `oom`, as far as a host without version 2 of the memory controller can show."""

from __future__ import annotations

import pytest

from .client import AgentError
from .harness import Guest, oci_spec


def test_answered_at_the_end_and_before_the_status_is_told(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    waiting = guest.control.send("wait", container="c")
    asked = guest.control.send("oom", container="c", seen=0)
    guest.control.call("start", container="c")
    assert not guest.control.has_reply(asked, 0.2)
    guest.control.call("signal", container="c", signal=9)
    assert guest.control.result(waiting) == {"signal": 9}
    # What was read on the way to the status came before it.
    assert guest.control.has_reply(asked, 0)
    assert guest.control.result(asked) == {"kills": 0, "ended": True}
    assert guest.control.call("oom", container="c") == {"kills": 0, "ended": True}
    guest.control.call("delete", container="c")


def test_answered_at_once_where_something_was_missed(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        assert guest.control.call("oom", container="c", seen=5) == {"kills": 0, "ended": False}


def test_delete_answers(guest: Guest) -> None:
    guest.control.call("create", container="c", oci=oci_spec("sleep", "100"))
    asked = [guest.control.send("oom", container="c") for _ in range(3)]
    guest.control.call("delete", container="c")
    assert [guest.control.result(each) for each in asked] == [{"kills": 0, "ended": True}] * 3


def test_who_has_gone_is_forgotten(guest: Guest) -> None:
    with guest.running("sleep", "100"):
        for _ in range(100):
            with_it = guest.connect()
            with_it.send("oom", container="c")
            with_it.close()
        assert guest.control.call("oom", container="c", seen=1) == {"kills": 0, "ended": False}


@pytest.mark.parametrize(
    ("args", "kind"), [({"container": "x"}, "not-found"), ({"container": "c", "seen": -1}, "invalid")]
)
def test_refusals(guest: Guest, args: dict[str, object], kind: str) -> None:
    with guest.running("sleep", "100"):
        with pytest.raises(AgentError) as caught:
            guest.control.call("oom", **args)
        assert caught.value.kind == kind
