"""volumes -> what the canonical form knows. ConfigMaps, Secrets and the downward API become files at once."""

import base64
from collections.abc import Iterator

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.manifests.kubernetes import downward, records
from hyperd.manifests.kubernetes.scope import Scope, one_of
from hyperd.manifests.kubernetes.store import Data, claim_size
from hyperd.manifests.quantities import whole
from hyperd.manifests.weight import check_weight, files_weight

_HOST_TYPES = ("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice")
_DEFAULT_MODE = 0o644


def volumes(found: list[records.Volume], path: str, scope: Scope) -> tuple[spec.Volume, ...]:
    made = []
    size = 0
    for index, volume in enumerate(found):
        where = f"{path}[{index}]"
        names.dns_label(volume.name, f"{where}.name")
        made.append(spec.Volume(name=volume.name, source=_source(volume, where, scope)))
        source = made[-1].source
        size += files_weight(source.files) if isinstance(source, spec.Projected) else 0
        check_weight(size, path)
    names.unique(((f"{path}[{index}].name", volume.name) for index, volume in enumerate(found)), "the volume")
    return tuple(made)


def _source(volume: records.Volume, path: str, scope: Scope) -> spec.Source:
    members = {name: getattr(volume, field) for field, name in zip(volume.__struct_fields__, volume.__struct_encode_fields__, strict=True)}
    del members["name"]
    # A volume of which nothing but the name is said is an emptyDir.
    kind = one_of(members, path, "") if any(value is not None for value in members.values()) else "emptyDir"
    where = f"{path}.{kind}"
    if volume.host_path is not None:
        if volume.host_path.type not in _HOST_TYPES:
            raise InvalidError(f"{where}.type: {volume.host_path.type[:80]!r} is none of {', '.join(_HOST_TYPES[1:])}")
        return spec.HostPath(path=names.absolute(volume.host_path.path, f"{where}.path"), type=volume.host_path.type)
    if volume.config_map is not None:
        return _config_map(volume.config_map, where, scope)
    if volume.secret is not None:
        return _secret(volume.secret, where, scope)
    if volume.downward_api is not None:
        return spec.Projected(files=tuple(_downward(volume.downward_api.items, volume.downward_api.default_mode, where, scope)))
    if volume.projected is not None:
        return _projected(volume.projected, where, scope)
    if volume.persistent_volume_claim is not None:
        return _claim(volume.persistent_volume_claim, where, scope)
    if volume.ephemeral is not None:
        size = claim_size(volume.ephemeral.volume_claim_template.spec, f"{where}.volumeClaimTemplate.spec")
        return spec.EmptyDir(size=size)
    if kind == "emptyDir":
        return _empty(volume.empty_dir or records.EmptyDirVolume(), where)
    raise InvalidError(f"{where} is not supported", hint="there are emptyDir, hostPath, configMap, secret, downwardAPI, projected, persistentVolumeClaim")


def _empty(found: records.EmptyDirVolume, path: str) -> spec.EmptyDir:
    if found.medium not in ("", "Memory"):
        raise InvalidError(f"{path}.medium: {found.medium[:80]!r} is not supported", hint="there is Memory")
    size = 0 if found.size_limit is None else whole(found.size_limit, f"{path}.sizeLimit")
    return spec.EmptyDir(medium="memory" if found.medium else "disk", size=size)


def _claim(found: records.ClaimVolume, path: str, scope: Scope) -> spec.Named:
    names.dns_subdomain(found.claim_name, f"{path}.claimName")
    size = scope.store.claims.get((scope.namespace, found.claim_name), 0)
    return spec.Named(name=found.claim_name, read_only=found.read_only, **({"size": size} if size else {}))


def _config_map(found: records.ConfigMapVolume, path: str, scope: Scope) -> spec.Projected:
    data = scope.config_map(found.name, f"{path}.name", optional=found.optional)
    files = _files(data, found.items, found.default_mode, path, optional=found.optional)
    return spec.Projected(files=_distinct(files, path))


def _secret(found: records.SecretVolume, path: str, scope: Scope) -> spec.Projected:
    data = scope.secret(found.secret_name, f"{path}.secretName", optional=found.optional)
    files = _files(data, found.items, found.default_mode, path, optional=found.optional)
    return spec.Projected(files=_distinct(files, path), secret=True)


def _projected(found: records.ProjectedVolume, path: str, scope: Scope) -> spec.Projected:
    files: list[spec.File] = []
    secret = False
    size = 0
    for index, source in enumerate(found.sources):
        where = f"{path}.sources[{index}]"
        before = len(files)
        members = {name: getattr(source, field) for field, name in zip(source.__struct_fields__, source.__struct_encode_fields__, strict=True)}
        kind = one_of(members, where, "")
        where = f"{where}.{kind}"
        if source.config_map is not None:
            part = source.config_map
            data = scope.config_map(part.name, f"{where}.name", optional=part.optional)
            files += _files(data, part.items, found.default_mode, where, optional=part.optional)
        elif source.secret is not None:
            part = source.secret
            secret = True
            data = scope.secret(part.name, f"{where}.name", optional=part.optional)
            files += _files(data, part.items, found.default_mode, where, optional=part.optional)
        elif source.downward_api is not None:
            files += _downward(source.downward_api.items, found.default_mode, where, scope)
        else:
            raise InvalidError(f"{where} is not supported: there is no API server that would give it")
        size += files_weight(files[before:])
        check_weight(size, path)
    return spec.Projected(files=_distinct(files, path), secret=secret)


def _files(data: Data | None, items: list[records.Item], default_mode: int | None, path: str, *, optional: bool) -> Iterator[spec.File]:
    """One file for each key, or for each item."""
    mode = _mode(default_mode, _DEFAULT_MODE, f"{path}.defaultMode")
    if not items:
        yield from (_file(key, (data or {})[key], mode) for key in sorted(data or {}))
    for index, item in enumerate(items):
        where = f"{path}.items[{index}]"
        names.relative(item.path, f"{where}.path")
        own = _mode(item.mode, mode, f"{where}.mode")
        if data is not None and item.key in data:
            yield _file(item.path, data[item.key], own)
        elif not optional:
            raise InvalidError(f"{where}.key: there is no key {item.key!r}")


def _downward(items: list[records.DownwardFile], default_mode: int | None, path: str, scope: Scope) -> Iterator[spec.File]:
    mode = _mode(default_mode, _DEFAULT_MODE, f"{path}.defaultMode")
    for index, item in enumerate(items):
        where = f"{path}.items[{index}]"
        names.relative(item.path, f"{where}.path")
        one_of({"fieldRef": item.field_ref, "resourceFieldRef": item.resource_field_ref}, where, "")
        if item.field_ref is not None:
            text = downward.field_value(item.field_ref, f"{where}.fieldRef", scope, in_file=True) or ""
        else:
            assert item.resource_field_ref is not None
            text = downward.resource_value(item.resource_field_ref, f"{where}.resourceFieldRef", "", scope)
        yield _file(item.path, text.encode(errors="surrogatepass"), _mode(item.mode, mode, f"{where}.mode"))


def _file(path: str, data: bytes, mode: int) -> spec.File:
    path = "/".join(part for part in path.split("/") if part not in ("", "."))
    try:
        return spec.File(path=path, content=data.decode(), mode=mode)
    except UnicodeDecodeError:
        return spec.File(path=path, content=base64.b64encode(data).decode(), encoding="base64", mode=mode)


def _mode(number: int | None, default: int, path: str) -> int:
    if number is None:
        return default
    if not 0 <= number <= 0o777:
        raise InvalidError(f"{path}: {number} is not a mode", hint="write it as 0644 in YAML and as 420 in JSON")
    return number


def _distinct(files: Iterator[spec.File] | list[spec.File], path: str) -> tuple[spec.File, ...]:
    """Nothing twice, and nothing that is a file here and a folder there."""
    seen: dict[str, spec.File] = {}
    for file in files:
        if not file.path:
            raise InvalidError(f"{path}: a file has no name")
        if file.path in seen:
            raise InvalidError(f"{path}: the file {file.path!r} is there twice")
        seen[file.path] = file
    for name in seen:
        parts = name.split("/")
        for count in range(1, len(parts)):
            if "/".join(parts[:count]) in seen:
                raise InvalidError(f"{path}: {'/'.join(parts[:count])!r} is a file and a folder")
    return tuple(seen.values())
