"""The ConfigMaps, Secrets and claims that stand beside a pod."""

import base64
import binascii
from typing import Any, NamedTuple

from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.manifests.decode import decode
from hyperd.manifests.kubernetes import records
from hyperd.manifests.quantities import whole

Data = dict[str, bytes]
_Key = tuple[str, str]  # namespace and name


class Store(NamedTuple):
    """``claims``: bytes that a PersistentVolumeClaim asks for."""

    config_maps: dict[_Key, Data]
    secrets: dict[_Key, Data]
    claims: dict[_Key, int]


def empty() -> Store:
    return Store({}, {}, {})


def namespace_of(metadata: records.Metadata) -> str:
    return metadata.namespace or "default"


def add_config_map(store: Store, document: Any) -> None:
    found = decode(document, records.ConfigMap)
    data = {names.config_key(key, f"data[{key}]"): value.encode(errors="surrogatepass") for key, value in found.data.items()}
    for key, value in found.binary_data.items():
        if key in data:
            raise InvalidError(f"binaryData[{key}]: the key is in data as well")
        data[names.config_key(key, f"binaryData[{key}]")] = _unpacked(value, f"binaryData[{key}]")
    _add(store.config_maps, found.metadata, data)


def add_secret(store: Store, document: Any) -> None:
    """``stringData`` goes before ``data``."""
    found = decode(document, records.Secret)
    data = {names.config_key(key, f"data[{key}]"): _unpacked(value, f"data[{key}]") for key, value in found.data.items()}
    for key, value in found.string_data.items():
        data[names.config_key(key, f"stringData[{key}]")] = value.encode(errors="surrogatepass")
    _add(store.secrets, found.metadata, data)


def add_claim(store: Store, document: Any) -> None:
    found = decode(document, records.Claim)
    _add(store.claims, found.metadata, claim_size(found.spec, "spec"))


def claim_size(spec: records.ClaimSpec, path: str) -> int:
    """Bytes; 0 when it does not say."""
    if spec.volume_mode != "Filesystem":
        raise InvalidError(f"{path}.volumeMode: {spec.volume_mode!r} is not supported: a volume is a file system")
    asked = spec.resources.requests.get("storage")
    return whole(asked, f"{path}.resources.requests.storage") if asked is not None else 0


def _add(into: dict[_Key, Any], metadata: records.Metadata, value: Any) -> None:
    key = namespace_of(metadata), names.dns_subdomain(metadata.name, "metadata.name")
    if key in into:
        raise InvalidError(f"metadata.name: {metadata.name!r} is there twice")
    into[key] = value


def _unpacked(text: str, path: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidError(f"{path}: not base64: {error}") from error
