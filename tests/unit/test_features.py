"""`runv features` says what is true (spec: features.md)."""

from pathlib import Path
from typing import Any

from runv.cli.features import features
from runv.errors import ConfigError
from runv.spec.config import Hooks
from runv.spec.rules import check_config

from .test_spec import changed, read

GUEST = Path(__file__).parent.parent.parent / "guest"


def test_every_hook_is_read() -> None:
    assert features()["hooks"] == [*Hooks.names().values()]


def test_words_that_the_guest_knows() -> None:
    """The tables are in C; a word of the document that is not there would be handed to a file system as its own option."""
    mounts = (GUEST / "init/storage/mount_options.c").read_text()
    for word in features()["mountOptions"]:
        known = f'"{word}"' in mounts or (word[0] == "r" and f'"{word[1:]}"' in mounts)
        assert known, word
    linux: dict[str, Any] = features()["linux"]
    for name in linux["capabilities"]:
        assert f'"{name}"' in (GUEST / "init/process/caps.c").read_text()
    for kind in ("actions", "operators", "supportedFlags"):
        for word in linux["seccomp"][kind]:
            assert f'"{word}"' in (GUEST / "init/process/seccomp.c").read_text()


def test_all_that_the_guest_knows_is_told() -> None:
    """And the other way around."""
    count = (GUEST / "init/process/caps.c").read_text().count('"CAP_')
    assert len(features()["linux"]["capabilities"]) == count


def test_what_is_said_not_to_work_is_refused() -> None:
    for path, value in (
        ("linux.intelRdt", {"closID": "x"}),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}),
    ):
        try:
            read(changed(path, value))
        except ConfigError:
            continue
        raise AssertionError(f"{path} is accepted")


def test_versions() -> None:
    for member in ("ociVersionMin", "ociVersionMax"):
        check_config(read(changed("ociVersion", features()[member])), "config.json")
