"""Instructions of a Dockerfile change an image's configuration."""

from typing import Any

import pytest

from hyperd.errors import InvalidError
from hyperd.images.documents import ImageConfig
from hyperd.images.instructions import changes_of

BEFORE = ImageConfig(
    cmd=["sh"],
    env=["PATH=/bin", "A=0"],
    exposed_ports={"80/tcp": {}},
    labels={"a": "b"},
    working_dir="/srv",
    volumes={"/v": {}},
)


@pytest.mark.parametrize(
    ("instructions", "changed"),
    [
        ([], {}),
        (['CMD ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
        (["cmd echo $HOME"], {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        (['ENTRYPOINT ["/init"]'], {"Entrypoint": ["/init"]}),
        (["ENV A=1 B='2 3'", "ENV C 4 5"], {"Env": ["PATH=/bin", "A=1", "B=2 3", "C=4 5"]}),
        (
            ["EXPOSE 443 53/udp", "EXPOSE 90-91"],
            {"ExposedPorts": {p: {} for p in ("80/tcp", "443/tcp", "53/udp", "90/tcp", "91/tcp")}},
        ),
        (["LABEL a=c d=e"], {"Labels": {"a": "c", "d": "e"}}),
        (["STOPSIGNAL SIGINT", "USER 1:2"], {"StopSignal": "SIGINT", "User": "1:2"}),
        (['VOLUME ["/w"]', "VOLUME /x /y"], {"Volumes": {p: {} for p in ("/v", "/w", "/x", "/y")}}),
        (["WORKDIR a", "WORKDIR ../b"], {"WorkingDir": "/srv/b"}),
        (["WORKDIR /c"], {"WorkingDir": "/c"}),
    ],
)
def test_changes(instructions: list[str], changed: dict[str, Any]) -> None:
    assert changes_of(BEFORE, instructions) == changed


@pytest.mark.parametrize(
    "instruction",
    [
        "",
        "CMD",
        "RUN make",
        "COPY a b",
        'CMD ["a"',
        "CMD [1]",
        "ENV A",
        "ENV =1",
        "ENV A=1 B",
        "ENV A='1",
        "EXPOSE x",
        "EXPOSE 0",
        "EXPOSE 9-8",
        "EXPOSE 80/icmp",
        "VOLUME a",
    ],
)
def test_what_is_not_understood(instruction: str) -> None:
    with pytest.raises(InvalidError):
        changes_of(BEFORE, [instruction])


@pytest.mark.parametrize(("text", "check"), [
    ("HEALTHCHECK CMD curl -f http://localhost || exit 1", {"Test": ["CMD-SHELL", "curl -f http://localhost || exit 1"]}),
    ('healthcheck --interval=1m30s --timeout=500ms --retries=2 CMD ["a", "b"]', {"Test": ["CMD", "a", "b"], "Interval": 90 * 10**9, "Timeout": 5 * 10**8, "Retries": 2}),
    ("HEALTHCHECK NONE", {"Test": ["NONE"]}),
])  # fmt: skip
def test_health_checks(text: str, check: dict[str, Any]) -> None:
    assert changes_of(ImageConfig(), [text]) == {"Healthcheck": check}


@pytest.mark.parametrize(
    "text", ["ls", "CMD", "--retries=x CMD a", "--interval=soon CMD a", "--interval= CMD a", "--interval=1s NONE", "--x CMD a", "NONE really"]
)
def test_health_checks_that_are_none(text: str) -> None:
    with pytest.raises(InvalidError):
        changes_of(ImageConfig(), [f"HEALTHCHECK {text}"])
