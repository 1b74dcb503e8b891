"""inotify in a container for what the host changes in its shared folders: docs/storage.md, "inotify"."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from .harness import Bundle, Created, Runtime, refusal, wait_until

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def inotify(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("inotify") / "inotify"
    source = Path(__file__).with_name("inotify.c")
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


def _events(container: Created) -> Counter[str]:
    """What inotify.c has said: the kind of an event, the watched path, and the name in it."""
    return Counter(line.rstrip() for line in container.output().decode().splitlines())


def _sees(container: Created, *lines: str) -> None:
    try:
        wait_until(lambda: set(lines) <= _events(container).keys(), f"{lines}")
    except TimeoutError as error:
        container.stderr.seek(0)
        raise AssertionError(f"{error}: {_events(container)} {container.stderr.read()!r}") from None


@pytest.mark.parametrize("kind", ["9p", "virtiofs"])
def test_changes_on_the_host(runv: Runtime, bundle: Bundle, folder: Path, inotify: Path, kind: str) -> None:
    runv = replace(runv, env={"RUNV_SHARE": kind})
    place, single = folder / "volume", folder / "single"
    (place / "sub/deep").mkdir(parents=True)
    (place / "sub/file").write_text("old\n")
    (place / "sub/watched").write_text("old\n")
    single.write_text("old\n")
    os.utime(place / "sub/file", ns=(1, 1_600_000_000_123_456_789))
    bundle.config["annotations"] = {"run.runv.share_notify": "on"}
    bundle.mount("/vol", str(place), "bind", "bind").mount("/ro", str(place / "sub"), "bind", "bind", "ro")
    bundle.mount("/one", str(single), "bind", "bind")
    bundle.mount("/inotify", str(inotify), "bind", "bind", "ro")
    container = runv.start(bundle.args("/inotify", "/vol", "/vol/sub", "/vol/sub/deep", "/vol/sub/watched", "/ro", "/one"))
    container.wait_output(b"ready\n")

    before = (place / "sub/file").stat()
    os.chmod(place / "sub/file", 0o600)
    _sees(container, "attrib /vol/sub file", "attrib /ro file")
    after = (place / "sub/file").stat()
    assert after.st_mtime_ns == before.st_mtime_ns == 1_600_000_000_123_456_789

    (place / "sub/file").write_text("new\n")
    _sees(container, "modify /vol/sub file", "modify /ro file")
    def mapped() -> list[str]:
        return [container.exec("/inotify", "--map", path).ok().out for path in ("/vol/sub/watched", "/one")]

    assert mapped() == ["o\n", "o\n"]
    (place / "sub/watched").write_text("new\n")
    _sees(container, "modify /vol/sub/watched", "modify /vol/sub watched")
    single.write_text("new\n")
    _sees(container, "modify /one")
    # What is held for those who watch is not held on to by what the kernel has cached of it.
    assert mapped() == ["n\n", "n\n"]
    (place / "sub/deep/made").write_text("x")
    _sees(container, "modify /vol/sub/deep made")
    # Whom the folder is of hears that it has changed; that a name is gone only its own machine could say.
    os.unlink(place / "sub/file")
    _sees(container, "modify /vol/sub", "modify /vol sub")
    # A folder that came later, and what is in it.
    (folder / "new").mkdir()
    (folder / "new/file").write_text("x")
    os.rename(folder / "new", place / "new")
    _sees(container, "modify /vol new")
    assert container.exec("cat", "/vol/new/file").ok().out == "x"

    # Nothing comes back: neither did the host's files change by it, nor does one change lead to another.
    ctime = (place / "sub/watched").stat().st_ctime_ns
    (place / "last").touch()
    _sees(container, "modify /vol last")
    (place / "end").touch()
    _sees(container, "modify /vol end")
    events = _events(container)
    assert events["modify /vol last"] <= 2 and events["modify /one"] <= 3 and events["modify /vol/sub/deep made"] <= 2, events
    assert (place / "sub/watched").stat().st_ctime_ns == ctime
    container.delete()


def test_what_is_no_wish(runv: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"run.runv.share_notify": "always"}
    done = runv.run_bundle(bundle.args("true"))
    assert refusal(done) == "runv run failed: config.json: $.annotations: run.runv.share_notify must be on or off, not 'always'"
