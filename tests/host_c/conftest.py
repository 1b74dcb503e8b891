"""Each test runs twice: with the programs as they are shipped, and with those built with sanitizers."""

from pathlib import Path

import pytest

from tests.guest_build import Kind, guest_build


@pytest.fixture(params=["plain", "san"])
def kind(request: pytest.FixtureRequest) -> Kind:
    value: Kind = request.param
    return value


@pytest.fixture
def programs(kind: Kind) -> Path:
    return guest_build(kind)
