"""Of several images in an archive, those that are wanted."""

from __future__ import annotations

import pytest

from hyperd.errors import MissingError
from hyperd.images.contents import Found
from hyperd.images.documents import Configuration, RootFs
from hyperd.images.images import chosen
from hyperd.images.references import parse


def image(*names: str) -> Found:
    return Found([parse(name) for name in names], b"", b"", Configuration(architecture="amd64", os="linux", rootfs=RootFs([])), [])


def test_the_wanted_ones_with_the_wanted_names() -> None:
    found = [image("app:1", "app:latest"), image("db:1"), image()]
    assert [each.names for each in chosen(found, [parse("app:1")])] == [[parse("app:1")]]
    assert [each.names for each in chosen(found, [parse("db:1"), parse("app")])] == [[parse("app")], [parse("db:1")]]
    with pytest.raises(MissingError, match=r"no image .*none:1") as caught:
        chosen(found, [parse("none:1")])
    assert "db:1" in caught.value.hint
