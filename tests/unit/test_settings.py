"""Where settings come from, and what is refused."""

from pathlib import Path

import pytest

from runv.errors import ConfigError
from runv.settings import CONFIG_PATH, SETTINGS, load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def environment(file: Path, **more: str) -> dict[str, str]:
    return {"RUNV_CONFIG": str(file)} | more


def test_environment_goes_before_file_goes_before_default(file: Path) -> None:
    file.write_text('memory_mib = 300\nvcpus = 2\ntransport = "serial"\n')
    found = load(environment(file, RUNV_MEMORY_MIB="400"))
    assert (found.number("memory_mib"), found.sources["memory_mib"]) == (400, "RUNV_MEMORY_MIB")
    assert (found.number("vcpus"), found.sources["vcpus"]) == (2, str(file))
    assert (found.text("transport"), found.sources["transport"]) == ("serial", str(file))
    assert (found.text("machine"), found.sources["machine"]) == ("auto", "default")
    assert set(found.values) == {setting.name for setting in SETTINGS}


def test_an_empty_text_in_the_environment_counts(file: Path) -> None:
    file.write_text('kernel_parameters = "debug"\n')
    assert load(environment(file, RUNV_KERNEL_PARAMETERS="")).text("kernel_parameters") == ""


@pytest.mark.skipif(Path(CONFIG_PATH).exists(), reason=f"{CONFIG_PATH} exists")
def test_the_usual_file_may_be_missing() -> None:
    assert set(load({}).sources.values()) == {"default"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memory = 5\n", "unknown setting memory"),
        ("memory_mib = 47\n", "memory_mib must be at least 48"),
        ('memory_mib = "much"\n', "memory_mib must be a whole number"),
        ("memory_mib = 1.5\n", "memory_mib must be a whole number"),
        ("memory_mib = true\n", "memory_mib must be a whole number"),
        ("memory_mib = -256\n", "memory_mib must be a whole number"),
        ("memory_mib = 9999999999\n", "memory_mib must be a whole number"),
        ("vcpus = 0\n", "vcpus must be at least 1"),
        ("kernel = 5\n", "kernel must be a text"),
        ('machine = "pc"\n', "machine must be one of auto, microvm, q35"),
        ("[qemu]\npath = 1\n", "qemu must be a text"),
        ("machine = \n", "cannot read"),
        ("\xff", "cannot read"),
    ],
)
def test_bad_files(file: Path, text: str, message: str) -> None:
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as failure:
        load(environment(file))
    assert message in str(failure.value)
    assert str(file) in str(failure.value)


@pytest.mark.parametrize(
    ("name", "value"), [("RUNV_VCPUS", ""), ("RUNV_VCPUS", "\u0665"), ("RUNV_MACHINE", "x"), ("RUNV_VCPUS", "1 ")]
)
def test_bad_variables_are_named(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "config.toml").touch()
    with pytest.raises(ConfigError, match=f"^{name}: "):
        load(environment(tmp_path / "config.toml", **{name: value}))


def test_a_file_that_was_named_must_be_there(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file or directory"):
        load(environment(file))
    with pytest.raises(ConfigError, match=r"is a directory"):
        load(environment(file.parent))


def test_the_readme_has_all_of_them() -> None:
    readme = (Path(__file__).parent.parent.parent / "README.md").read_text()
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `")]
    told = {word.strip(" `") for row in rows for word in row.split(",")}
    assert {setting.name for setting in SETTINGS} <= told
