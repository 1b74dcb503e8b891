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
