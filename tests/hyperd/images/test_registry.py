"""Pulling and pushing: Debian's registry with skopeo on the other side, and registries that do wrong."""

import asyncio
import base64
import contextlib
import gzip
import json
import lzma
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import zstandard

from hyperd.errors import DeniedError, HyperError, InvalidError, MissingError, UnavailableError
from hyperd.images import Credentials, Image, Images, ImageSettings, Progress
from hyperd.images.client import Client
from hyperd.images.endpoints import Endpoint

from .conftest import run
from .packing import Blobs, Member, Stream, digest, folder, image, layer, manifest_of, packed, tree, write_layout
from .registries import Answer, Asked, Authority, Reply, Server, Tokens, docker_registry, serving

# Longer than what is taken in one piece.
LARGE = os.urandom(3 << 20)
INDEX = "application/vnd.oci.image.index.v1+json"


def two_layers() -> Blobs:
    return image(
        [layer(folder("bin"), Member("bin/large", LARGE)), layer(Member("bin/small", b"1"), Member("bin/.wh.large"))]
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def skopeo(*arguments: str | Path) -> str:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True).stdout


def upload(tmp_path: Path, made: Blobs, target: str, *options: str) -> None:
    source = write_layout(tmp_path / f"upload{time.monotonic_ns()}", made, "up")
    skopeo("copy", "-q", "--dest-tls-verify=false", *options, f"oci:{source}:up", f"docker://{target}")


# Debian's registry


def test_pull_commit_push_and_read_back(registry: str, images: Images, tmp_path: Path) -> None:
    upload(tmp_path, two_layers(), f"{registry}/some/image:1")
    told: list[Progress] = []
    pulled: Image = run(images.pull(f"{registry}/some/image:1", progress=told.append))
    assert pulled.names == (f"{registry}/some/image:1",) and len(pulled.layers) == 2
    assert {each.what for each in told} == {"resolve", "download", "unpack", "done"}

    upper = layer(
        folder("./bin"),
        Member("./bin/new", b"new"),
        Member("./bin/small", kind=b"3"),
        folder("./opaque", xattrs={"trusted.overlay.opaque": b"y"}),
    )
    made: Image = run(
        images.commit(pulled.id, Stream(upper), reference=f"{registry}/made:2", config={"Cmd": ["new"]}, message="more")
    )
    assert made.config.cmd == ["new"] and images.history(made.id)[0].comment == "more"
    run(images.push(f"{registry}/made:2"))

    read = json.loads(skopeo("inspect", "--tls-verify=false", "--config", f"docker://{registry}/made:2"))
    assert read["config"]["Cmd"] == ["new"] and len(read["rootfs"]["diff_ids"]) == 3
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{registry}/made:2", f"oci:{tmp_path / 'back'}:x")
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path / 'back'}:x", tmp_path / "bundle"], check=True, capture_output=True
    )
    assert sorted(os.listdir(tmp_path / "bundle/rootfs/bin")) == ["new"]
    assert os.listdir(tmp_path / "bundle/rootfs/opaque") == []


def test_a_push_sends_only_what_is_missing(registry: str, images: Images, tmp_path: Path) -> None:
    upload(tmp_path, two_layers(), f"{registry}/origin:1")
    run(images.pull(f"{registry}/origin:1"))
    told: list[Progress] = []
    pushed = run(images.push(f"{registry}/origin:1", target=f"{registry}/copy:1", progress=told.append))
    assert all(each.done == each.total for each in told), "blobs are mounted, not sent"
    assert (
        skopeo("inspect", "--tls-verify=false", f"docker://{registry}/copy:1", "--format", "{{.Digest}}").strip()
        == pushed
    )
    assert {each.rpartition("@")[2] for each in images.find(f"{registry}/origin:1").digests} == {pushed}


def test_a_layer_that_was_not_packed_is_packed_to_be_pushed(registry: str, images: Images, tmp_path: Path) -> None:
    source = write_layout(tmp_path / "plain", image([layer(Member("file", b"1" * 100_000))], pack=False))
    run(images.load(source, name=f"{registry}/plain:1"))
    run(images.push(f"{registry}/plain:1"))
    raw = json.loads(skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{registry}/plain:1"))
    assert raw["layers"][0]["mediaType"].endswith("tar+gzip") and raw["layers"][0]["size"] < 10_000


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_what_is_saved_is_read_by_skopeo_and_by_us(images: Images, tmp_path: Path, kind: Any) -> None:
    run(images.load(write_layout(tmp_path / "layout", two_layers(), "test/saved:1")))
    run(images.save(["test/saved:1"], tmp_path / "saved.tar", kind=kind))
    read = json.loads(skopeo("inspect", "--config", f"{kind}-archive:{tmp_path / 'saved.tar'}"))
    saved = images.find("test/saved:1")
    assert read["rootfs"]["diff_ids"] == [each.diff_id for each in saved.layers]
    run(images.remove("test/saved:1"))
    assert run(images.load(tmp_path / "saved.tar")) == (saved,)


@pytest.mark.parametrize(
    ("kind", "pack"),
    [("docker-archive", ""), ("docker-archive", "gzip"), ("oci-archive", ""), ("oci-archive", "zstd"), ("oci", "")],
)
def test_archives_of_skopeo_are_loaded(images: Images, tmp_path: Path, kind: str, pack: str) -> None:
    source = write_layout(tmp_path / "layout", two_layers(), "test/archive:1")
    target = tmp_path / "archive"
    skopeo("copy", "-q", f"oci:{source}:test/archive:1", f"{kind}:{target}:test/archive:1")
    if pack:
        data = target.read_bytes()
        target.write_bytes(gzip.compress(data, 1) if pack == "gzip" else zstandard.compress(data))
    (loaded,) = run(images.load(target))
    assert loaded.names == ("test/archive:1",) and len(loaded.layers) == 2


def test_an_archive_comes_through_a_pipe(images: Images, tmp_path: Path) -> None:
    source = write_layout(tmp_path / "layout", two_layers(), "test/pipe:1")
    with subprocess.Popen(["tar", "-C", source, "-cz", "."], stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        (loaded,) = run(images.load(sender.stdout.fileno()))
    assert loaded.names == ("test/pipe:1",)


def test_layers_of_many_frames_and_members(images: Images, tmp_path: Path) -> None:
    plain = layer(Member("file", LARGE))
    halves = plain[: 1 << 20], plain[1 << 20 :]
    for number, blob in enumerate(
        (
            b"".join(map(packed, halves)) + bytes(700),
            b"".join(map(zstandard.compress, halves)),
            b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstandard.compress(plain),
        )
    ):
        config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "n": number,
                "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
            }
        ).encode()
        manifest = manifest_of(config, [("application/vnd.oci.image.layer.v1.tar", blob)])
        made = Blobs(manifest, {digest(each): each for each in (config, manifest, blob)})
        (loaded,) = run(images.load(write_layout(tmp_path / f"frames{number}", made)))
        assert loaded.layers[0].diff_id == digest(plain)


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder_ = tmp_path_factory.mktemp("basic")
    subprocess.run(["htpasswd", "-Bbc", folder_ / "users", "alice", "secret"], check=True, capture_output=True)
    with docker_registry(folder_, {"htpasswd": {"realm": "test", "path": str(folder_ / "users")}}) as host:
        upload(folder_, two_layers(), f"{host}/private:1", "--dest-creds=alice:secret")
        yield host


def test_a_name_and_a_password(basic: str, images: Images) -> None:
    with pytest.raises(DeniedError, match=f"registry {basic} refuses") as caught:
        run(images.pull(f"{basic}/private:1"))
    assert caught.value.hint == f"hyperctl login {basic}"
    with pytest.raises(DeniedError):
        run(images.login(basic, "alice", "wrong"))
    run(images.login(basic, "alice", "secret"))
    run(images.pull(f"{basic}/private:1"))
    run(images.push(f"{basic}/private:1", target=f"{basic}/other:1"))
    assert images.logout(basic) and not images.logout(basic)
    with pytest.raises(DeniedError):
        run(images.pull(f"{basic}/private:1"))
    run(images.pull(f"{basic}/private:1", credentials=Credentials("alice", "secret")))


def test_credentials_of_docker_and_of_a_helper(
    basic: str, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    config = tmp_path / "config.json"
    auth = base64.b64encode(b"alice:secret").decode()
    config.write_text(json.dumps({"auths": {f"https://{basic}/v2/": {"auth": auth}}}))
    run(images.pull(f"{basic}/private:1"))
    config.write_text(json.dumps({"credHelpers": {basic: "test"}}))
    with pytest.raises(UnavailableError, match="cannot run docker-credential-test: No such file"):
        run(images.pull(f"{basic}/private:1"))
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        f'#!/bin/sh\nread -r host\n[ "$1 $host" = "get {basic}" ] && echo \'{{"Username": "alice", "Secret": "secret"}}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    run(images.pull(f"{basic}/private:1"))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Server]]:
    folder_ = tmp_path_factory.mktemp("tokens")
    service = Tokens(folder_, "bob", "secret")
    with Server(service.answer) as server:
        auth = {
            "realm": f"http://{server.host}/token",
            "service": "test",
            "issuer": "tokens",
            "rootcertbundle": str(service.bundle),
        }
        with docker_registry(folder_, {"token": auth}) as host:
            for name in ("public/one", "private/one"):
                upload(folder_, two_layers(), f"{host}/{name}:1", "--dest-creds=bob:secret")
            yield host, server


def test_tokens(tokens: tuple[str, Server], images: Images) -> None:
    host, server = tokens
    run(images.pull(f"{host}/public/one:1"))
    with pytest.raises(DeniedError):
        run(images.pull(f"{host}/private/one:1"))
    with pytest.raises(DeniedError, match="incorrect username or password"):
        run(images.pull(f"{host}/private/one:1", credentials=Credentials("bob", "wrong")))
    server.asked.clear()
    run(images.pull(f"{host}/private/one:1", credentials=Credentials("bob", "secret")))
    assert len(server.asked) == 1, "a token is kept as long as it is good"
    with pytest.raises(DeniedError):
        run(images.push(f"{host}/public/one:1", target=f"{host}/public/two:1"))
    run(images.push(f"{host}/public/one:1", target=f"{host}/public/two:1", credentials=Credentials("bob", "secret")))


def test_logging_in_where_there_are_tokens(tokens: tuple[str, Server], images: Images) -> None:
    host, _ = tokens
    with pytest.raises(DeniedError, match="incorrect username or password"):
        run(images.login(f"http://{host}/v2/", "bob", "wrong"))
    run(images.login(f"http://{host}/v2/", "bob", "secret"))
    run(images.pull(f"{host}/private/one:1"))
    with pytest.raises(InvalidError, match="is no name of a registry"):
        run(images.login("no host", "bob", "secret"))


def test_an_identity_token_is_exchanged(images: Images) -> None:
    made = two_layers()

    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            fields = parse_qs(asked.body.decode())
            assert fields["refresh_token"] == ["identity"] and fields["scope"] == ["repository:image:pull"]
            return Reply(b'{"access_token": "access"}')
        if asked.headers.get("Authorization") == "Bearer access":
            return serving(made)(asked)
        realm = f'Bearer realm="http://{server.host}/token",service="a, \\"b\\"",scope="repository:image:pull,push"'
        return Reply(b"", 401, {"WWW-Authenticate": realm})

    with Server(answer) as server:
        run(images.pull(f"{server.host}/image:1", credentials=Credentials(identity_token="identity")))
        assert [each.method for each in server.asked if each.path == "/token"] == ["POST"]


def test_a_full_disk(tmp_path: Path, settings: ImageSettings) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    root = tmp_path / "small"
    root.mkdir()
    source = write_layout(tmp_path / "layout", two_layers())
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", root], check=True)
    try:
        with Server(serving(two_layers())) as server, Images(root, settings) as images:
            with pytest.raises(UnavailableError, match="No space left on device"):
                run(images.load(source))
            run(images.gc(()))
            with pytest.raises(UnavailableError, match="No space left on device"):
                run(images.pull(f"{server.host}/large:1"))
            assert images.list() == () and os.listdir(root / "tmp") == []
            run(images.gc(()))
            small = write_layout(tmp_path / "small-layout", image([layer(Member("file", b"1"))]))
            assert run(images.load(small))
    finally:
        subprocess.run(["umount", root], check=True)


# Registries that do wrong


def faulty(made: Blobs, fault: Callable[[Asked, Reply], Reply]) -> Answer:
    right = serving(made)
    return lambda asked: fault(asked, right(asked))


def is_large(reply: Reply) -> bool:
    return len(reply.body) > 1 << 20


def test_a_transfer_that_breaks_off_goes_on(images: Images) -> None:
    with Server(
        faulty(two_layers(), lambda _, reply: reply._replace(cut=1 << 20) if is_large(reply) else reply)
    ) as server:
        run(images.pull(f"{server.host}/cut:1"))
        starts = [each.headers.get("Range") for each in server.paths("/blobs/") if "Range" in each.headers]
    assert len(starts) >= 2 and len(set(starts)) == len(starts)


def test_what_came_is_kept_for_the_next_time(images: Images, tmp_path: Path, nothing_left: Callable[[], None]) -> None:
    made = two_layers()

    def fault(asked: Asked, reply: Reply) -> Reply:
        return (
            Reply(b"", 500) if "Range" in asked.headers else reply._replace(cut=1 << 20) if is_large(reply) else reply
        )

    with Server(faulty(made, fault)) as server:
        with pytest.raises(UnavailableError, match="answers 500"):
            run(images.pull(f"{server.host}/kept:1"))
        assert images.list() == ()
        server.answer = serving(made)
        server.asked.clear()
        run(images.pull(f"{server.host}/kept:1"))
        assert [each.headers["Range"] for each in server.asked if "Range" in each.headers] == [f"bytes={1 << 20}-"]


def test_a_registry_that_cannot_go_on_begins_anew(images: Images) -> None:
    made = two_layers()
    right = serving(made, ranges=False)
    cuts = iter([1 << 20])

    def answer(asked: Asked) -> Reply:
        reply = right(asked)
        return reply._replace(cut=next(cuts, None)) if is_large(reply) else reply

    with Server(answer) as server:
        run(images.pull(f"{server.host}/anew:1"))


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def on_layer(change: Callable[[Reply], Reply]) -> Callable[[Asked, Reply], Reply]:
    return lambda _, reply: change(reply) if is_large(reply) else reply


def on_manifest(change: Callable[[Reply], Reply]) -> Callable[[Asked, Reply], Reply]:
    return lambda asked, reply: change(reply) if "/manifests/" in asked.path else reply


def loop(asked: Asked, reply: Reply) -> Reply:
    return Reply(b"", 307, {"Location": asked.path}) if "/blobs/" in asked.path else reply


FAULTS: dict[str, tuple[Callable[[Asked, Reply], Reply], type[HyperError], str]] = {
    "other contents": (
        on_layer(lambda reply: reply._replace(body=changed(reply.body))),
        UnavailableError,
        "sends other contents",
    ),
    "too long": (on_layer(lambda reply: reply._replace(body=reply.body + b"x")), UnavailableError, "bytes for sha256"),
    "too short": (on_layer(lambda reply: reply._replace(body=reply.body[:-5])), UnavailableError, "bytes for sha256"),
    "stalls": (on_layer(lambda reply: reply._replace(cut=1000, stall=True)), UnavailableError, "stands still"),
    "stalls at once": (lambda _, reply: reply._replace(cut=0, stall=True), UnavailableError, "stands still"),
    "loop": (loop, UnavailableError, "redirects more than 5 times"),
    "error": (on_layer(lambda _: Reply(b"<html>oops", 502)), UnavailableError, "answers 502 for blob"),
    "lost": (on_layer(lambda _: Reply(b"", 404)), MissingError, "has no blob"),
    "redirect to nowhere": (on_layer(lambda _: Reply(b"", 302)), UnavailableError, "does not say where"),
    "redirect to a file": (
        on_layer(lambda _: Reply(b"", 302, {"Location": "file:///etc/passwd"})),
        UnavailableError,
        "does not say where",
    ),
    "forbidden": (
        on_manifest(lambda _: Reply(b'{"errors":[{"code":"DENIED","message":"go away"}]}', 403)),
        DeniedError,
        "go away",
    ),
    "unknown": (on_manifest(lambda _: Reply(b"404 page not found", 404)), MissingError, "has no bad:1"),
    "teapot": (on_manifest(lambda _: Reply(b"", 418)), UnavailableError, "answers 418"),
    "html": (on_manifest(lambda _: Reply(b"<html>")), InvalidError, "the manifest cannot be read"),
    "array": (on_manifest(lambda _: Reply(b"[]")), InvalidError, "the manifest cannot be read"),
    "deep": (on_manifest(lambda _: Reply(b"[" * 100_000)), InvalidError, "the manifest cannot be read"),
    "large manifest": (on_manifest(lambda _: Reply(b" " * (9 << 20))), UnavailableError, "a document of more than"),
    "schema 1": (on_manifest(lambda _: Reply(b'{"schemaVersion": 1}')), InvalidError, "schema 1"),
    "both": (
        on_manifest(lambda _: Reply(b'{"manifests": [], "layers": []}')),
        InvalidError,
        "both of an image and of several",
    ),
    "artifact": (
        on_manifest(lambda reply: reply._replace(body=reply.body.replace(b"image.config", b"other.config"))),
        InvalidError,
        "no image but an artifact",
    ),
    "path as a digest": (
        on_manifest(lambda reply: reply._replace(body=reply.body.replace(b'"sha256:', b'"sha256:../../'))),
        InvalidError,
        "is not sha256",
    ),
    "lies in a header": (
        on_manifest(lambda reply: reply._replace(headers={"Docker-Content-Digest": digest(b"other")})),
        UnavailableError,
        "sends another manifest",
    ),
    "wrong platform": (
        on_manifest(lambda _: Reply(json.dumps({"manifests": [entry("s390x")]}).encode())),
        MissingError,
        "not made for linux/",
    ),
}


def entry(architecture: str, data: bytes = b"", **more: Any) -> dict[str, Any]:
    kind = "application/vnd.oci.image.manifest.v1+json"
    return {
        "mediaType": kind,
        "digest": digest(data),
        "size": len(data),
        "platform": {"os": "linux", "architecture": architecture},
        **more,
    }


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Images]:
    settings = ImageSettings(stall_timeout_s=0.3, connect_timeout_s=1, back_off_s=0.001, certificates=(), attempts=2)
    with Images(tmp_path / "images", settings) as made:
        yield made


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gets_an_error_and_leaves_no_image(name: str, impatient: Images, tmp_path: Path) -> None:
    fault, kind, message = FAULTS[name]
    with Server(faulty(two_layers(), fault)) as server, pytest.raises(kind, match=message) as caught:
        run(impatient.pull(f"{server.host}/bad:1"))
    assert type(caught.value).__name__ not in ("HyperError",) and "Traceback" not in str(caught.value)
    assert impatient.list() == () and os.listdir(tmp_path / "images/tmp") == []
    run(impatient.gc(()))
    assert all(os.listdir(tmp_path / "images" / each) == [] for each in ("blobs", "layers", "images", "parts"))


def bad_blob(blob: bytes, plain: bytes = b"") -> Blobs:
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(plain)]}}
    ).encode()
    manifest = manifest_of(config, [("application/vnd.oci.image.layer.v1.tar+gzip", blob)])
    return Blobs(manifest, {digest(each): each for each in (blob, config, manifest)})


GOOD_TAR = layer(Member("a", b"1" * 5000))
BAD_LAYERS = {
    "diff id": (bad_blob(packed(GOOD_TAR), b"other"), "the diff id of the layer is"),
    "gzip cut off": (bad_blob(packed(GOOD_TAR)[:-20], GOOD_TAR), "gzip stream is cut off"),
    "gzip damaged": (bad_blob(packed(GOOD_TAR)[:50] + b"\xff" * 50, GOOD_TAR), "gzip stream is damaged"),
    "gzip and more": (bad_blob(packed(GOOD_TAR) + b"garbage", GOOD_TAR), "gzip stream is damaged"),
    "zstd damaged": (bad_blob(zstandard.compress(GOOD_TAR)[:40] + b"\xff" * 60, GOOD_TAR), "zstd stream is damaged"),
    "zstd cut off": (bad_blob(zstandard.compress(LARGE + GOOD_TAR)[:-50], LARGE), "checksum|damaged|too early"),
    "no tar": (bad_blob(packed(b"x" * 2000), b"x" * 2000), "wrong checksum"),
    "tar cut off": (bad_blob(packed(GOOD_TAR[:1500]), GOOD_TAR[:1500]), "ends too early"),
    "xz cut off": (bad_blob(lzma.compress(GOOD_TAR)[:-20], GOOD_TAR), "xz stream is"),
}


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_a_bad_layer_gets_an_error(name: str, impatient: Images, tmp_path: Path) -> None:
    made, message = BAD_LAYERS[name]
    with Server(serving(made)) as server, pytest.raises(InvalidError, match=message):
        run(impatient.pull(f"{server.host}/bad:1"))
    assert impatient.list() == () and os.listdir(tmp_path / "images/layers") == []


def test_a_redirect_gets_no_credentials(images: Images) -> None:
    made = two_layers()
    with Server(serving(made)) as elsewhere:

        def answer(asked: Asked) -> Reply:
            if asked.headers.get("Authorization") is None:
                return Reply(b"", 401, {"WWW-Authenticate": 'Basic realm="test"'})
            if "/blobs/" in asked.path:
                return Reply(b"", 307, {"Location": f"http://localhost:{elsewhere.port}{asked.path}?signature=1"})
            return serving(made)(asked)

        with Server(answer) as server:
            run(images.pull(f"{server.host}/away:1", credentials=Credentials("alice", "secret")))
        assert len(elsewhere.asked) == 3 and all("Authorization" not in each.headers for each in elsewhere.asked)


def test_a_registry_that_is_busy_is_asked_again(images: Images) -> None:
    busy = iter([Reply(b"", 429, {"Retry-After": "0"}), Reply(b"", 503)])
    with Server(faulty(two_layers(), on_manifest(lambda reply: next(busy, reply)))) as server:
        run(images.pull(f"{server.host}/busy:1"))


def test_mirrors_come_first_and_may_fail(tmp_path: Path) -> None:
    made = two_layers()
    with Server(lambda _: Reply(b"", 404)) as absent, Server(serving(made)) as mirror:
        settings = ImageSettings(
            mirrors=(("docker.io", (absent.host, f"http://{mirror.host}/cache")),), back_off_s=0.01
        )
        with Images(tmp_path / "images", settings) as images:
            pulled = run(images.pull("mirrored"))
    assert pulled.names == ("mirrored:latest",) and absent.asked
    assert mirror.asked[-1].path.startswith("/cache/v2/library/mirrored/blobs/") and mirror.asked[-1].path.endswith(
        "?ns=docker.io"
    )


def test_certificates(tmp_path: Path, settings: ImageSettings) -> None:
    """A registry that nobody vouches for, one whose authority is known, and one that wants to know us. Loopback itself is always believed: not here."""
    authority = Authority(tmp_path / "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.certificate)
    context.load_cert_chain(*authority.issue("server"))

    async def ask(host: str) -> int:
        known = settings._replace(certificates=(str(tmp_path / "certs.d"),))
        async with (
            Client(Endpoint(host, ("https",)), None, known) as client,
            client.request("GET", "", scope="") as response,
        ):
            return response.status

    with Server(lambda _: Reply(b"{}"), context) as server:
        own = tmp_path / "certs.d" / server.host
        own.mkdir(parents=True)
        with pytest.raises(UnavailableError, match="is not trusted") as caught:
            run(ask(server.host))
        assert f"/etc/hyperd/certs.d/{server.host}/" in caught.value.hint
        shutil.copy(authority.certificate, own / "ca.crt")
        assert run(ask(server.host)) == 200
        context.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(UnavailableError):
            run(ask(server.host))
        certificate, key = authority.issue("client")
        shutil.copy(certificate, own / "client.cert")
        shutil.copy(key, own / "client.key")
        assert run(ask(server.host)) == 200
        (own / "client.key").unlink()
        with pytest.raises(UnavailableError, match="cannot use the certificates in"):
            run(ask(server.host))


def test_an_index_by_platform(images: Images) -> None:
    amd, arm = image([layer(Member("amd"))]), image([layer(Member("arm"))], architecture="arm64")
    attestation = entry("unknown", amd.manifest, annotations={"vnd.docker.reference.type": "attestation-manifest"})
    index = json.dumps(
        {"mediaType": INDEX, "manifests": [attestation, entry("arm64", arm.manifest), entry("amd64", amd.manifest)]}
    ).encode()
    made = Blobs(index, {**amd.blobs, **arm.blobs, digest(index): index})
    with Server(serving(made)) as server:
        assert run(images.pull(f"{server.host}/many:1", platform="linux/arm64")).architecture == "arm64"
        pulled = run(images.pull(f"{server.host}/many@{digest(index)}", platform="linux/amd64"))
        assert pulled.architecture == "amd64" and f"{server.host}/many@{digest(index)}" in pulled.digests
        assert images.find(f"{server.host}/many@{digest(index)}").id in (
            pulled.id,
            images.find(f"{server.host}/many:1").id,
        )
        with pytest.raises(MissingError) as caught:
            run(images.pull(f"{server.host}/many:1", platform="linux/riscv64"))
    assert caught.value.hint == "it is for linux/amd64, linux/arm64"


def test_pulls_at_once_bring_each_blob_once(images: Images) -> None:
    async def both(host: str) -> None:
        await asyncio.gather(images.pull(f"{host}/one:1"), images.pull(f"{host}/two:1"))

    with Server(serving(two_layers())) as server:
        run(both(server.host))
        blobs = [each.path.rpartition("/")[2] for each in server.paths("/blobs/")]
    assert len(blobs) == len(set(blobs)) == 3
    assert len(images.list()) == 1 and len(images.list()[0].names) == 2


def test_policies(images: Images) -> None:
    with Server(serving(two_layers())) as server:
        name = f"{server.host}/policy:1"
        with pytest.raises(MissingError, match="is not to be pulled"):
            run(images.pull(name, policy="never"))
        assert server.asked == []
        run(images.pull(name, policy="missing"))
        server.asked.clear()
        run(images.pull(name, policy="missing"))
        assert server.asked == []
        run(images.pull(name, policy="always"))
        assert server.paths("/manifests/") and not server.paths("/blobs/")


@pytest.mark.parametrize("what", ["resolve", "download", "unpack", "done"])
def test_a_pull_that_is_given_up(images: Images, tmp_path: Path, what: str) -> None:
    """Whenever it is, nothing stays but parts to go on with, and nothing runs."""

    async def give_up(name: str) -> None:
        def told(progress: Progress) -> None:
            if progress.what == what:
                task.cancel()

        task = asyncio.create_task(images.pull(name, progress=told))
        with pytest.raises(asyncio.CancelledError):
            await task

    with Server(serving(two_layers())) as server:
        run(give_up(f"{server.host}/given:1"))
        assert images.list() == () and os.listdir(tmp_path / "images/tmp") == []
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        assert not [pid for pid in children if b"hyperd.images.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(run(images.pull(f"{server.host}/given:1")).layers) == 2


PULL = """
import asyncio, pathlib, sys
from hyperd.images import Images, ImageSettings
async def pull():
    with Images(pathlib.Path(sys.argv[1]), ImageSettings(certificates=())) as images:
        await images.pull(sys.argv[2])
asyncio.run(pull())
"""


def test_a_daemon_that_is_killed_leaves_nothing_half(
    tmp_path: Path, settings: ImageSettings, overlay: Callable[[Image], Path]
) -> None:
    made = two_layers()
    root = tmp_path / "images"
    with Server(serving(made)) as server:
        for moment in (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5):
            killed = subprocess.Popen(
                [sys.executable, "-c", PULL, root, f"{server.host}/killed:1"], stderr=subprocess.DEVNULL
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                killed.wait(moment)
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            with Images(root, settings) as images:
                assert os.listdir(root / "tmp") == []
                for found in images.list():
                    assert [each.path.exists() for each in found.layers] == [True, True]
                if images.list():
                    run(images.remove(f"{server.host}/killed:1"))
        with Images(root, settings) as images:
            pulled = run(images.pull(f"{server.host}/killed:1"))
            assert sorted(tree(overlay(pulled))) == [".", "bin", "bin/small"]
