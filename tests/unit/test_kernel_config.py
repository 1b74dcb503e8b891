"""kernel-config/: the fragments keep their rules, a lost symbol is noticed, and the key covers what shapes a kernel."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

DIRECTORY = Path(__file__).resolve().parents[2] / "kernel-config"


def load(name: str) -> ModuleType:
    """A module of kernel-config/, which is no package: its programs run by path."""
    sys.path.insert(0, str(DIRECTORY))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DIRECTORY))


fragments = load("fragments")
build = load("build")
X86_64 = build.ARCHES["x86_64"]


def own_fragments() -> list[Path]:
    return sorted(DIRECTORY.glob("*.config"))


# ---- The fragments themselves.


@pytest.mark.parametrize("path", own_fragments(), ids=lambda path: path.name)
def test_every_group_has_a_reason(path: Path) -> None:
    assert fragments.parse_fragment(path.name, path.read_text())


@pytest.mark.parametrize("path", own_fragments(), ids=lambda path: path.name)
def test_nothing_is_a_module(path: Path) -> None:
    assert [request for request in fragments.parse_fragment(path.name, path.read_text()) if request.value == "m"] == []


def test_no_symbol_is_asked_for_twice() -> None:
    requests = [r for path in own_fragments() for r in fragments.parse_fragment(path.name, path.read_text())]
    fragments.reject_repeats(requests)


def test_x86_symbols_stay_in_their_file() -> None:
    for path in own_fragments():
        if path.name != "x86_64.config":
            symbols = {request.symbol for request in fragments.parse_fragment(path.name, path.read_text())}
            assert not [s for s in symbols if s.startswith(("CONFIG_X86", "CONFIG_ACPI", "CONFIG_KVM", "CONFIG_PVH"))]


def test_uname_ends_in_hyper() -> None:
    requests = fragments.parse_fragment("base.config", (DIRECTORY / "base.config").read_text())
    assert {r.symbol: r.value for r in requests}["CONFIG_LOCALVERSION"] == '"-hyper"'


# ---- Their rules, on texts made up for it.


def test_a_group_without_a_reason_is_refused() -> None:
    with pytest.raises(fragments.BuildError, match=r"a\.config:4: CONFIG_B stands in a group without a comment"):
        fragments.parse_fragment("a.config", "# Why.\nCONFIG_A=y\n\nCONFIG_B=y\n")


def test_an_unset_symbol_is_a_request_and_no_reason() -> None:
    with pytest.raises(fragments.BuildError, match="without a comment"):
        fragments.parse_fragment("a.config", "# CONFIG_A is not set\nCONFIG_B=y\n")


def test_other_text_is_refused() -> None:
    with pytest.raises(fragments.BuildError, match=r"a\.config:2: not a comment and not a symbol"):
        fragments.parse_fragment("a.config", "# Why.\nCONFIG_A y\n")


@pytest.mark.parametrize("second", ["CONFIG_A=y", "# CONFIG_A is not set"])
def test_a_repeat_names_both_places(second: str) -> None:
    requests = fragments.parse_fragment("a.config", "# Why.\nCONFIG_A=y\n")
    requests += fragments.parse_fragment("b.config", f"# Why.\n{second}\n")
    with pytest.raises(fragments.BuildError, match=r"CONFIG_A is asked for twice: a\.config:2 and b\.config:2"):
        fragments.reject_repeats(requests)


def test_what_got_lost_is_told_with_its_place() -> None:
    wanted = fragments.parse_fragment(
        "a.config", '# Why.\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_C=16\nCONFIG_D="x y"\n# CONFIG_E is not set\nCONFIG_F=y\n'
    )
    final = fragments.parse_config('CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=17\nCONFIG_D="x y"\nCONFIG_E=y\n')
    assert fragments.lost_symbols(wanted, final) == [
        "CONFIG_B=y (a.config:3) became n",
        "CONFIG_C=16 (a.config:4) became 17",
        "CONFIG_E=n (a.config:6) became y",
        "CONFIG_F=y (a.config:7) became unavailable",
    ]


def test_what_is_unset_may_be_absent() -> None:
    wanted = fragments.parse_fragment("a.config", "# Why.\n# CONFIG_A is not set\n")
    assert fragments.lost_symbols(wanted, {}) == []


# ---- The key of the cache.

FRAGMENT = build.Fragment("a.config", "# Why.\nCONFIG_A=y\n# CONFIG_B is not set\n")
INPUTS = build.Inputs("x86_64", "source", "gcc 12", (FRAGMENT,))


@pytest.mark.parametrize(
    "other",
    [
        replace(INPUTS, arch="aarch64"),
        replace(INPUTS, source_id="another"),
        replace(INPUTS, compiler="gcc 13"),
        replace(INPUTS, fragments=(replace(FRAGMENT, text="# Why.\nCONFIG_A=y\n"),)),
        replace(INPUTS, fragments=(replace(FRAGMENT, text="# Why.\nCONFIG_A=y\nCONFIG_B=y\n"),)),
    ],
)
def test_the_key_changes_with_what_shapes_a_kernel(other: "build.Inputs") -> None:  # type: ignore[name-defined]
    assert other.key != INPUTS.key


def test_the_key_does_not_change_with_wording() -> None:
    reworded = replace(FRAGMENT, name="b.config", text="# Because.\n# CONFIG_B is not set\nCONFIG_A=y\n")
    assert replace(INPUTS, fragments=(reworded,)).key == INPUTS.key


def test_a_tarball_is_named_by_content_and_hashed_once(tmp_path: Path) -> None:
    tarball, memo = tmp_path / "linux.tar.xz", tmp_path / "kernel-build"
    tarball.write_bytes(b"one")
    first = build.tarball_id(tarball, memo)
    assert build.tarball_id(tarball, memo) == first
    tarball.write_bytes(b"two!")
    assert build.tarball_id(tarball, memo) != first
    assert len((memo / "source-ids.json").read_text().splitlines()) == 4


def test_a_git_tree_is_named_by_commit_and_changes(tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text("VERSION = 6\n")
    (tmp_path / "a.c").write_text("one\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    clean = build.tree_id(tmp_path)
    (tmp_path / "a.c").write_text("two\n")
    assert build.tree_id(tmp_path) != clean


def test_only_this_architecture_adds_its_fragment(tmp_path: Path) -> None:
    for name in ("base", "x86_64", "aarch64"):
        (tmp_path / f"{name}.config").write_text("# Why.\nCONFIG_A=y\n")
    assert [f.name for f in build.read_fragments(tmp_path, X86_64)] == ["base.config", "x86_64.config"]
    (tmp_path / "x86_64.config").unlink()
    with pytest.raises(fragments.BuildError, match=r"there is no x86_64\.config"):
        build.read_fragments(tmp_path, X86_64)


# ---- The command, as far as it goes without building.


def settings(tmp_path: Path, **env: str) -> "build.Settings":  # type: ignore[name-defined]
    return build.Settings.from_environment({"RUNV_CACHE": str(tmp_path), **env})


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    chosen = settings(tmp_path, RUNV_KERNEL_SOURCE="/srv/linux", CROSS_COMPILE="aarch64-linux-gnu-", CC="")
    assert (chosen.source, chosen.cc) == (Path("/srv/linux"), "aarch64-linux-gnu-gcc")
    assert build.Settings.from_environment({"XDG_CACHE_HOME": "/x"}).cache == Path("/x/runv")


def test_a_missing_tool_is_named_with_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda tool: None if tool == "flex" else f"/usr/bin/{tool}")
    with pytest.raises(fragments.BuildError, match=r"cannot build kernel: flex: not found") as caught:
        build.check_tools(settings(tmp_path))
    assert "flex" in caught.value.hint


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(fragments.BuildError, match="no source at /nowhere"):
        build.source_id(settings(tmp_path, RUNV_KERNEL_SOURCE="/nowhere"))


def test_print_path_tells_whether_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Makefile").write_text("VERSION = 6\n")
    monkeypatch.setenv("RUNV_KERNEL_SOURCE", str(tree))
    monkeypatch.setenv("RUNV_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "compiler_version", lambda _: "gcc 12")
    arguments = ["--print-path", "--arch", "x86_64"]
    assert build.main(arguments) == 1
    path = Path(capsys.readouterr().out.strip())
    assert path.name == "vmlinux"
    assert path.parent.parent == tmp_path / "kernel"
    path.parent.mkdir(parents=True)
    path.touch()
    assert build.main(arguments) == 0


def test_progress_without_a_terminal_is_a_line_for_every_tenth() -> None:
    said: list[str] = []
    progress = build.Progress(said.append, live=False, expected=20)
    for _ in range(30):
        progress.line("  CC      fs/ext4/inode.o\n")
        progress.line("make[1]: Entering directory '/x'\n")
    progress.done()
    assert len(said) == 10
    assert said[0].startswith("kernel: 2 of about 20 objects, 10 %")
    assert said[-1].startswith("kernel: 30 objects, 100 %")
