"""What runs, as whom and with which powers."""

from __future__ import annotations

import pytest

from hyperd import bundle, spec
from hyperd.bundle import ImageView, User, find_user
from hyperd.errors import InvalidError

from .samples import IMAGE, PLACE, environment, pod, process


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ((), (), ["/entry", "one", "two"]),
        ((), ("x",), ["/entry", "x"]),
        (("/c",), (), ["/c"]),
        (("/c",), ("x",), ["/c", "x"]),
    ],
)
def test_commands(command: tuple[str, ...], args: tuple[str, ...], expected: list[str]) -> None:
    assert process(command=command, args=args)["args"] == expected


def test_no_command() -> None:
    with pytest.raises(InvalidError, match="neither it nor the image i has a command"):
        process(image=ImageView())


def test_the_environment() -> None:
    found = process(environment=(("LANG", "de"), ("A", "$(B)=x"), ("HOME", "/h")), tty=True)
    assert found["env"] == ["PATH=/bin", "HOSTNAME=p", "TERM=xterm", "LANG=de", "A=$(B)=x", "HOME=/h"]
    assert environment(process(image=ImageView(cmd=("x",))))["PATH"].startswith("/usr/local/sbin")
    assert environment(process(security=spec.Security(user="web")))["HOME"] == "/var/www"
    assert environment(process(security=spec.Security(user="1234")))["HOME"] == "/"


def test_what_is_known_at_the_start_only() -> None:
    found = process(
        fields=(("IP", "pod-ip"), ("IPS", "pod-ips"), ("NODE", "node-name"), ("HOST", "host-ip"), ("UID", "pod-uid")),
        environment=(("URL", "http://$(IP)/$$(IP)"),),
        command=("$(NODE)",),
        args=("$$HOME", "$(NO)", "$(UID)"),
    )
    values = environment(found)
    assert (values["IP"], values["IPS"], values["URL"], values["HOST"]) == ("10.1.2.3", "10.1.2.3,fd00::3", "http://10.1.2.3/$(IP)", "192.0.2.1")
    assert found["args"] == ["node", "$HOME", "$(NO)", "0123456789abcdef"]


@pytest.mark.parametrize(("own", "image", "expected"), [("", "", "/"), ("", "srv/x", "/srv/x"), ("/a/../b", "c", "/b"), ("..", "", "/"), ("//x", "", "/x")])
def test_working_folders(own: str, image: str, expected: str) -> None:
    assert process(image=IMAGE._replace(working_dir=image), working_dir=own)["cwd"] == expected


@pytest.mark.parametrize(
    ("text", "group", "expected"),
    [
        ("", "", User(0, 0, (4,), "/root")),
        ("root", "", User(0, 0, (4,), "/root")),
        ("web", "", User(33, 34, (4, 50), "/var/www")),
        ("33", "", User(33, 34, (4, 50), "/var/www")),
        ("web:disk", "", User(33, 6, (), "/var/www")),
        ("web:99", "", User(33, 99, (), "/var/www")),
        ("web", "6", User(33, 6, (4, 34, 50), "/var/www")),
        ("1234", "", User(1234, 0, (), "")),
        ("1234:1", "", User(1234, 1, (), "")),
        ("77", "", User(77, 78, (), "/odd")),
        (":disk", "", User(0, 6, (), "/root")),
    ],
)
def test_users(text: str, group: str, expected: User) -> None:
    assert find_user(text, IMAGE, group=group) == expected


def test_additional_groups() -> None:
    found = process(security=spec.Security(user="web", additional_groups=("disk", "7")))
    assert found["user"] == {"uid": 33, "gid": 34, "additionalGids": [34, 4, 50, 6, 7]}


@pytest.mark.parametrize("text", ["nobody", "web:nobody", "-1", "99999999999", "4294967295", "\uff11"])
def test_unknown_users(text: str) -> None:
    with pytest.raises(InvalidError):
        find_user(text, IMAGE)


def test_whose_user_is_unknown() -> None:
    with pytest.raises(InvalidError, match="container c: the image has no group 'no'"):
        process(security=spec.Security(group="no"))


def test_who_must_not_be_root() -> None:
    for image, user in ((IMAGE, "0"), (IMAGE, ""), (IMAGE._replace(user="root"), "")):
        with pytest.raises(InvalidError, match="must not run as root"):
            process(image=image, security=spec.Security(user=user, run_as_non_root=True))
    assert process(image=IMAGE._replace(user="web"), security=spec.Security(run_as_non_root=True))["user"]["uid"] == 33


def bounding(**members: object) -> set[str]:
    return set(process(security=spec.Security(**members))["capabilities"]["bounding"])  # type: ignore[arg-type]


def test_capabilities() -> None:
    usual = bounding()
    assert len(usual) == 14 and "CAP_NET_RAW" in usual and "CAP_SYS_ADMIN" not in usual
    assert bounding(add_capabilities=("net_admin",)) == usual | {"CAP_NET_ADMIN"}
    assert bounding(drop_capabilities=("CAP_NET_RAW",)) == usual - {"CAP_NET_RAW"}
    assert bounding(drop_capabilities=("ALL",), add_capabilities=("KILL",)) == {"CAP_KILL"}
    assert len(bounding(add_capabilities=("ALL",), drop_capabilities=("SYS_ADMIN",))) == 40
    assert len(bounding(privileged=True, drop_capabilities=("ALL",))) == 41
    assert process(security=spec.Security(user="web"))["capabilities"]["effective"] == []
    assert set(process()["capabilities"]["effective"]) == usual


def test_limits_of_a_process() -> None:
    found = process(ulimits=(spec.Ulimit(name="nofile", soft=5, hard=-1), spec.Ulimit(name="core", soft=0, hard=0)))
    assert found["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 2**64 - 1}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]  # fmt: skip


def test_further_processes() -> None:
    whole = pod(spec.Container(name="c", image="i", environment=(("A", "1"),), working_dir="/w", security=spec.Security(user="web")))
    first = bundle.exec_process(whole, whole.containers[0], IMAGE, PLACE, ["ls"])
    assert (first["args"], first["cwd"], first["user"]["uid"], first["terminal"]) == (["ls"], "/w", 33, False)
    other = bundle.exec_process(
        whole, whole.containers[0], IMAGE, PLACE, ["sh"], environment=[("A", "2")], cwd="/x", user="root", tty=True, privileged=True
    )
    assert environment(other)["A"] == "2" and environment(other)["HOME"] == "/root" and environment(other)["TERM"] == "xterm"
    assert other["cwd"] == "/x" and len(other["capabilities"]["effective"]) == 41
    for args, env in (([], []), ([""], []), (["a\0"], []), (["a"], [("", "x")]), (["a"], [("B=", "x")])):
        with pytest.raises(InvalidError):
            bundle.exec_process(whole, whole.containers[0], IMAGE, PLACE, args, environment=env)


def test_stop_signals() -> None:
    own = spec.Container(name="c", image="i")
    assert bundle.stop_signal(own, IMAGE) == "SIGTERM"
    assert bundle.stop_signal(own, IMAGE._replace(stop_signal="3")) == "SIGQUIT"
    assert bundle.stop_signal(spec.Container(name="c", image="i", stop_signal="int"), IMAGE._replace(stop_signal="3")) == "SIGINT"
    with pytest.raises(InvalidError, match="stop signal: 'x' is not a signal"):
        bundle.stop_signal(own, IMAGE._replace(stop_signal="x"))
