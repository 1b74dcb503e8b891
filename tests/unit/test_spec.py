"""config.json: what is read, and which JSON path a refusal names."""

import copy
import json
from typing import Any

import pytest

from runv.errors import ConfigError
from runv.sandbox.join import has_own_pids
from runv.spec.annotations import sandbox_of
from runv.spec.config import parse_config
from runv.spec.default import default_config
from runv.spec.linux_rules import NAMESPACES
from runv.spec.process import parse_process


def changed(path: str, value: Any) -> dict[str, Any]:
    """The default configuration with another value at a dotted path; numbers index lists, ``-`` takes the member away."""
    document: Any = copy.deepcopy(default_config())
    *parents, last = path.split(".")
    place = document
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    if value == "-":
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return dict(document)


def read(document: Any) -> Any:
    return parse_config(json.dumps(document).encode(), "config.json").config


def refusal(data: bytes) -> str:
    with pytest.raises(ConfigError) as failure:
        parse_config(data, "config.json")
    return str(failure.value)


def mapped(*ranges: dict[str, int]) -> dict[str, Any]:
    return {"uidMappings": list(ranges), "gidMappings": list(ranges)}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


BAD: list[tuple[str, Any, str]] = [
    ("ociVersion", "-", "$: Object missing required field `ociVersion`"),
    ("ociVersion", 1, "$.ociVersion: "),
    ("ociVersion", "2.0.0", "$.ociVersion: unsupported version '2.0.0'"),
    ("ociVersion", "0.9.0", "$.ociVersion: "),
    ("ociVersion", "1", "$.ociVersion: "),
    ("ociVersion", "", "$.ociVersion: "),
    ("root", "-", "$.root.path: "),
    ("root.path", "", "$.root.path: "),
    ("root.path", 5, "$.root.path: "),
    ("root.readonly", "yes", "$.root.readonly: "),
    ("process.args", [], "$.process.args must not be empty"),
    ("process.args", [""], "$.process.args must not be empty"),
    ("process.args", "sh", "$.process.args: "),
    ("process.args", ["sh", 5], "$.process.args[1]: "),
    ("process.args", ["sh", "a\0b"], "$.process.args[1]: 'a\\x00b' contains a zero byte"),
    ("linux.a\0b", 1, "$.linux: 'a\\x00b' contains a zero byte"),
    ("linux.maskedPaths", ["/x"] * 70000, "$ has more than 65000 values"),
    ("linux.other", [[[]]] * 30000, "$ has more than 65000 values"),
    ("process.oomScoreAdj", 2**64, "$.process.oomScoreAdj: 18446744073709551616 does not fit 64 bits"),
    ("linux.resources.pids.limit", -(2**63) - 1, "$.linux.resources.pids.limit: "),
    ("linux.resources.memory.limit", 2**63, "$.linux.resources.memory.limit: "),
    ("linux.resources.other", nested(60), "$.linux.resources.other"),
    ("hooks", {"prestart": [{"path": "/bin/a\0b"}]}, "$.hooks.prestart[0].path: "),
    ("process.cwd", "-", "$.process: "),
    ("process.cwd", "", "$.process.cwd must be an absolute path"),
    ("process.cwd", "tmp", "$.process.cwd must be an absolute path"),
    ("process.cwd", 1, "$.process.cwd: "),
    ("process.env", ["PATH"], "$.process.env[0]: "),
    ("process.env", ["A=b", "=x"], "$.process.env[1]: "),
    ("process.terminal", 1, "$.process.terminal: "),
    ("process.user.uid", -1, "$.process.user.uid: "),
    ("process.user.gid", 2**32 - 1, "$.process.user.gid: "),
    ("process.user.uid", "root", "$.process.user.uid: "),
    ("process.user.uid", 1.5, "$.process.user.uid: "),
    ("process.user.additionalGids", [0, -5], "$.process.user.additionalGids[1]: "),
    ("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 1}], "$.process.rlimits[0]: "),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": None, "hard": 1}], "$.process.rlimits[0].soft: Expected `int`, got `null`"),
    ("process.rlimits", [{"type": "RLIMIT_X", "soft": 1, "hard": 1}], "$.process.rlimits[0].type: "),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2, "$.process.rlimits[1].type: "),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": -1, "hard": 1}], "$.process.rlimits[0]: "),
    ("process.commandLine", "dir", "$.process.commandLine"),
    ("mounts.0.destination", "", "$.mounts[0].destination must not be empty"),
    ("mounts.0", {"source": "x"}, "$.mounts[0]: "),
    ("mounts.1.options", "bind", "$.mounts[1].options: "),
    ("mounts.1", {"destination": "/x", "options": ["rbind"]}, "$.mounts[1].source: "),
    ("mounts.1", {"destination": "/x", "source": "/", "options": ["rbind", "ridmap"]}, "$.mounts[1]: an id-mapped mount needs uidMappings and"),
    ("mounts.1", {"destination": "/x", "source": "/", "options": ["bind"], "uidMappings": [{}]}, "$.mounts[1]: an id-mapped mount needs"),
    ("mounts.1", {"destination": "/x", "type": "tmpfs", **mapped({"size": 1})}, "$.mounts[1]: id-mapped mounts cannot be honoured but for bind"),
    ("mounts.1", {"destination": "/x", "source": "/", "options": ["bind"], **mapped({})}, "$.mounts[1].uidMappings[0].size must be"),
    ("mounts.1", {"destination": "/x", "source": "/", "options": ["bind"], **mapped({"size": 0})}, "$.mounts[1].uidMappings[0]: ids are"),
    ("mounts.1", {"destination": "/x", "source": "/", "options": ["bind"], **mapped({"hostID": -1, "size": 1})}, "$.mounts[1].uidMappings[0].hostID"),
    (
        "mounts.1",
        {"destination": "/x", "source": "/", "options": ["bind"], **mapped({"size": 5}, {"containerID": 9, "hostID": 4, "size": 1})},
        "$.mounts[1].uidMappings[1] overlaps",
    ),
    ("mounts", {}, "$.mounts: "),
    ("hostname", "h" * 65, "$.hostname must have at most 64 bytes"),
    ("hostname", "\u00e4" * 33, "$.hostname must have at most 64 bytes"),
    ("domainname", "a\0", "$.domainname"),
    ("annotations", {"": "x"}, "$.annotations: a key is empty"),
    ("annotations", {"a": 1}, "$.annotations[...]: "),
    ("linux.maskedPaths", ["/proc/kcore", "proc/keys"], "$.linux.maskedPaths[1] must be an absolute path, not 'proc/keys'"),
    ("linux.readonlyPaths", ["sys"], "$.linux.readonlyPaths[0] must be an absolute path"),
    ("linux.netDevices", {"eth0": {"name": "a/b"}}, "$.linux.netDevices: 'a/b' is not a name for a network interface"),
    ("linux.netDevices", {"eth0": {}, "eth1": {"name": "eth0"}}, "$.linux.netDevices: two devices are to be called eth0"),
    ("linux.timeOffsets", {"monotonic": {"secs": 1}}, "$.linux.timeOffsets needs a namespace of type time"),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 1, "size": 1}], "$.linux.uidMappings needs a namespace of type user"),
    ("linux.resources.rdma", {"mlx5_1": {"hcaHandles": 3}}, "$.linux.resources.rdma cannot be honoured"),
    ("linux.resources.cpu", {"realtimeRuntime": 950000}, "$.linux.resources.cpu.realtimeRuntime cannot be honoured"),
    ("vm", {"kernel": {"path": "vmlinux"}}, "$.vm.kernel.path must be an absolute path"),
    ("vm", {"kernel": {"parameters": []}}, "$.vm.kernel: "),
    ("vm", {"kernel": {"path": "/k", "initrd": "i"}}, "$.vm.kernel.initrd must be an absolute path"),
    ("vm", {"kernel": {"path": "/k", "parameters": ["a\nb"]}}, "$.vm.kernel.parameters[0]: "),
    ("vm", {"hypervisor": {"path": "qemu"}}, "$.vm.hypervisor.path must be an absolute path"),
    ("vm", {"hypervisor": {"path": "/q", "parameters": ["-s"]}}, "$.vm.hypervisor.parameters cannot be honoured"),
    ("vm", {"image": {"path": "/i", "format": "raw"}}, "$.vm.image cannot be honoured"),
    ("vm", {"hwConfig": {"vcpus": 0}}, "$.vm.hwConfig.vcpus must be between 1 and 255"),
    ("vm", {"hwConfig": {"memory": 4194304}}, "$.vm.hwConfig.memory must be at least"),
    ("vm", {"hwConfig": {"irqs": [1]}}, "$.vm.hwConfig.irqs cannot be honoured"),
    ("vm", {"hwConfig": {"deviceTree": "/d"}}, "$.vm.hwConfig.deviceTree cannot be honoured"),
    ("hooks", {"prestart": [{"args": []}]}, "$.hooks.prestart[0]: "),
    ("hooks", {"poststop": [{"path": "/a"}, {"path": "b"}]}, "$.hooks.poststop[1].path must be an absolute path"),
    ("hooks", {"startContainer": [{"path": "/a", "timeout": 0}]}, "$.hooks.startContainer[0].timeout must be greater than zero"),
    ("hooks", {"createContainer": [{"path": "/a", "env": ["A=\0"]}]}, "$.hooks.createContainer[0].env[0]: "),
    ("linux.namespaces", [{"type": "net"}], "$.linux.namespaces[0].type: unknown namespace 'net'"),
    ("linux.namespaces", [{"type": "pid"}, {"type": "pid"}], "$.linux.namespaces[1].type: pid is given twice"),
    ("linux.namespaces", [{"type": "network", "path": "x"}], "$.linux.namespaces[0].path must be absolute"),
    ("linux.namespaces", [{"type": "pid"}], "$.linux.namespaces: a virtual machine cannot use the host's own network"),
    ("linux.namespaces", "-", "$.linux.namespaces: "),
    ("linux", "-", "$.linux.namespaces: "),
    ("linux.intelRdt", {}, "$.linux.intelRdt"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}, "$.linux.seccomp"),
    ("linux.seccomp", {"syscalls": [{"action": "SCMP_ACT_NOTIFY"}]}, "$.linux.seccomp"),
    ("linux.resources", {"memory": {"limit": "1G"}}, "$.linux.resources.memory.limit: "),
]


@pytest.mark.parametrize(
    ("path", "value", "message"), BAD, ids=[f"{path}={json.dumps(value)[:30]}" for path, value, _ in BAD]
)
def test_a_refusal_names_the_json_path(path: str, value: Any, message: str) -> None:
    text = refusal(json.dumps(changed(path, value)).encode())
    assert text.startswith("config.json: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"ociVersion": "1.0.2",}',
        b'{"ociVersion": "\xff\xfe"}',
        b"[" * 100_000,
        b"\xef\xbb\xbf{}",
    ],
    ids=["empty", "open", "word", "comma", "utf-8", "deep", "bom"],
)
def test_what_is_not_json(data: bytes) -> None:
    assert refusal(data).startswith("config.json is not JSON: ")


@pytest.mark.parametrize("data", [b"[]", b"null", b"5", b'"x"'])
def test_what_is_no_object(data: bytes) -> None:
    assert refusal(data) == "config.json: expected a JSON object at $"


def test_what_no_guest_takes() -> None:
    document = json.dumps(default_config()).encode()
    assert refusal(document + b" " * 4_000_000).startswith("config.json has 400")


def test_what_just_fits() -> None:
    read(changed("linux.resources.pids.limit", 2**63 - 1))
    read(changed("linux.resources.memory.limit", 2**64 - 1))
    read(changed("linux.other", nested(50)))
    read(changed("process.env", ["A=b"] * 60000))
    read(changed("annotations.a", "\0"))


def test_the_default_is_good_and_kept_whole() -> None:
    document = parse_config(json.dumps(default_config()).encode(), "config.json")
    assert document.raw == default_config()
    assert document.config.process is not None
    assert document.config.process.args == ["sh"]


@pytest.mark.parametrize(
    ("namespaces", "own"),
    [
        ([{"type": "pid"}], True),
        ([{"type": "pid", "path": "/proc/17/ns/pid"}], False),
        ([], False),
    ],
)
def test_whose_the_pid_namespace_is(namespaces: list[dict[str, str]], own: bool) -> None:
    needed = [{"type": "network"}, {"type": "mount"}]
    assert has_own_pids(read(changed("linux.namespaces", needed + namespaces))) is own


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.0.0-rc5", "1.1.0", "1.2.1", "1.3.0", "1.9.9"])
def test_versions_of_the_specification(version: str) -> None:
    assert read(changed("ociVersion", version)).oci_version == version


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.user.additionalGids", [1, 2]),
        ("process.user.uid", 2**32 - 2),
        ("process.rlimits", None),
        ("process.env", None),
        ("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]),
        ("mounts", None),
        ("hooks", None),
        ("annotations", None),
        ("hooks", {"prestart": None, "poststop": [{"path": "/bin/true", "timeout": 3}]}),
        ("linux.namespaces", [{"type": kind} for kind in NAMESPACES]),
        ("linux.resources", {"memory": {"limit": -1}, "unified": {"memory.high": "1"}}),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": None}),
        ("unknown", {"anything": [1, None]}),
        ("process.unknown", 1),
        ("hostname", "h" * 64),
    ],
)
def test_good_documents(path: str, value: Any) -> None:
    read(changed(path, value))


def test_names_are_the_specifications() -> None:
    config = read(changed("linux.cgroupsPath", "/a/b"))
    assert config.linux.cgroups_path == "/a/b"
    assert config.process.no_new_privileges is True


def test_a_process_of_its_own() -> None:
    process, raw = parse_process(b'{"cwd": "/", "args": ["ls"], "x": 1}', "process.json")
    assert process.args == ["ls"]
    assert raw["x"] == 1
    with pytest.raises(ConfigError, match=r"^process\.json: \$\.cwd must be"):
        parse_process(b'{"cwd": "x", "args": ["ls"]}', "process.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[]", "process.json: expected a JSON object at $"),
        (b'{"cwd": "/", "args": ["ls"]', "process.json is not JSON: "),
        (b'{"cwd": "/", "args": ["ls"], "x": NaN}', "process.json is not JSON: NaN is no number"),
        (b'{"cwd": "/", "args": ["\xff"]}', "process.json is not JSON: "),
        (b"[" * 100000, "process.json is not JSON: "),
        (b'{"cwd": "/", "args": ["\\ud800"]}', "process.json: $.args[0]: '\\ud800' contains half a character"),
        (b'{"args": ["ls"]}', "process.json: $: Object missing required field `cwd`"),
        (b'{"cwd": "/", "args": null}', "process.json: $.args: Expected `array`, got `null`"),
        (b'{"cwd": "/", "args": ["ls"], "terminal": 1}', "process.json: $.terminal: Expected `bool`, got `int`"),
        (b'{"cwd": "/", "args": ["ls"], "user": {"uid": true}}', "process.json: $.user.uid: Expected `int`, got `bool`"),
        (b'{"cwd": "/", "args": ["ls"], "env": "a"}', "process.json: $.env: Expected `array | null`, got `str`"),
        (b'{"cwd": "/", "args": ["ls"], "rlimits": [{"type": "RLIMIT_CPU"}]}', "process.json: $.rlimits[0]: Object missing required field `soft`"),
        (b'{"cwd": "/", "args": ["ls"], "capabilities": {"bounding": [1]}}', "process.json: $.capabilities.bounding[0]: Expected `str`, got `int`"),
        (b'{"cwd": "/", "args": ["ls"], "x": 18446744073709551616}', "process.json: $.x: 18446744073709551616 does not fit 64 bits"),
    ],
)
def test_a_process_that_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse_process(text, "process.json")
    assert str(failure.value).startswith(message)


CRI, CRIO = "io.kubernetes.cri.", "io.kubernetes.cri-o."


@pytest.mark.parametrize(
    ("annotations", "sandbox"),
    [
        ({}, ""),
        ({CRI + "container-type": "sandbox", CRI + "sandbox-id": "p"}, ""),
        ({CRI + "container-type": "container", CRI + "sandbox-id": "p"}, "p"),
        ({CRI + "container-type": "container"}, ""),
        ({CRI + "sandbox-id": "p"}, ""),
        ({CRIO + "ContainerType": "sandbox", CRIO + "SandboxID": "q"}, ""),
        ({CRIO + "ContainerType": "container", CRIO + "SandboxID": "q"}, "q"),
    ],
)
def test_pods_by_annotation(annotations: dict[str, str], sandbox: str) -> None:
    assert sandbox_of(annotations) == sandbox


def test_an_unknown_capability_is_an_error_before_1_1() -> None:
    document = changed("process.capabilities.ambient", ["CAP_KILL", "CAP_X"])
    assert read(document | {"ociVersion": "1.1.0"})
    assert "$.process.capabilities: unknown capability 'CAP_X'" in refusal(json.dumps(document | {"ociVersion": "1.0.2-dev"}).encode())
