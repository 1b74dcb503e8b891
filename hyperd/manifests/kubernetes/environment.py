"""env and envFrom -> variables, with ``$(NAME)`` replaced in Kubernetes' order."""

from typing import NamedTuple

from hyperd.errors import InvalidError
from hyperd.expansion import LENGTH_MAX, expand, quote
from hyperd.manifests import names
from hyperd.manifests.kubernetes import downward, records
from hyperd.manifests.kubernetes.scope import Scope, one_of
from hyperd.manifests.kubernetes.store import Data
from hyperd.manifests.weight import ENVIRONMENT_MAX, check_weight, texts_weight
from hyperd.spec import Late


class Environment(NamedTuple):
    """``values`` are templates when there are ``fields``; see ``hyperd.spec.Container``. ``secrets``: those that come from Secrets."""

    values: dict[str, str]
    fields: dict[str, Late]
    secrets: tuple[str, ...] = ()

    def expand(self, text: str, path: str) -> str:
        return expand(text, self.values, path, self.fields)


def environment(container: records.Container, path: str, scope: Scope) -> Environment:
    """What is in ``env`` goes before ``envFrom``, what comes later before what came earlier."""
    fields: dict[str, Late] = {}
    has_late = any(_late(variable) for variable in container.env)
    values: dict[str, str] = {}
    secrets: set[str] = set()
    size = 0
    for index, source in enumerate(container.env_from):
        found = _from(source, f"{path}.envFrom[{index}]", scope)
        size += texts_weight(found)
        check_weight(size, f"{path}.envFrom", ENVIRONMENT_MAX)
        for name, text in found.items():
            values[name] = quote(text) if has_late else text
        secrets = secrets | found.keys() if source.secret_ref else secrets - found.keys()
    for index, variable in enumerate(container.env):
        where = f"{path}.env[{index}]"
        names.variable(variable.name, f"{where}.name")
        late = _late(variable)
        if variable.name in fields or (late and any(earlier.name == variable.name for earlier in container.env[:index])):
            raise InvalidError(f"{where}.name: {variable.name!r} is there already, and one of the two is known at the start only")
        values.pop(variable.name, None)
        secrets.discard(variable.name)
        if late is not None:
            fields[variable.name] = late
        elif variable.value_from is None:
            text = names.no_nul(variable.value or "", f"{where}.value")
            # Before the first late one a $ has to be doubled too: all values are templates or none is.
            values[variable.name] = expand(text, values, f"{where}.value", fields or ({""} if has_late else ()))
        else:
            given = _value(variable.value_from, container.name, f"{where}.valueFrom", scope)
            if given is not None:
                secrets |= {variable.name} if variable.value_from.secret_key_ref else set()
                values[variable.name] = quote(given) if has_late else given
        if variable.value is not None and variable.value != "" and variable.value_from is not None:
            raise InvalidError(f"{where}: only one of value and valueFrom can be given")
        size += len(variable.name) + len(values.get(variable.name, ""))
        check_weight(size, f"{path}.env", ENVIRONMENT_MAX)
    return Environment(values, fields, tuple(name for name in values if name in secrets))


def _late(variable: records.Variable) -> Late | None:
    selector = variable.value_from.field_ref if variable.value_from else None
    return downward.LATE.get(selector.field_path) if selector else None


def _from(source: records.VariablesFrom, path: str, scope: Scope) -> dict[str, str]:
    if source.prefix:
        names.variable(source.prefix, f"{path}.prefix")
    if one_of({"configMapRef": source.config_map_ref, "secretRef": source.secret_ref}, path, "") == "secretRef":
        assert source.secret_ref is not None
        data = scope.secret(source.secret_ref.name, f"{path}.secretRef.name", optional=source.secret_ref.optional)
    else:
        assert source.config_map_ref is not None
        data = scope.config_map(source.config_map_ref.name, f"{path}.configMapRef.name", optional=source.config_map_ref.optional)
    found = {}
    for key in sorted(data or {}):
        found[source.prefix + key] = _text((data or {})[key], f"{path}: key {key!r}")
    return found


def _value(source: records.ValueFrom, container: str, path: str, scope: Scope) -> str | None:
    """None: an optional one that is not there."""
    kinds: dict[str, object] = {
        "configMapKeyRef": source.config_map_key_ref, "secretKeyRef": source.secret_key_ref,
        "fieldRef": source.field_ref, "resourceFieldRef": source.resource_field_ref, "fileKeyRef": source.file_key_ref,
    }  # fmt: skip
    kind = one_of(kinds, path, "")
    where = f"{path}.{kind}"
    if source.field_ref is not None:
        return downward.field_value(source.field_ref, where, scope, in_file=False)
    if source.resource_field_ref is not None:
        return downward.resource_value(source.resource_field_ref, where, container, scope)
    if source.secret_key_ref is not None:
        ref = source.secret_key_ref
        return _entry(scope.secret(ref.name, f"{where}.name", optional=ref.optional), ref, where)
    if source.config_map_key_ref is not None:
        ref = source.config_map_key_ref
        return _entry(scope.config_map(ref.name, f"{where}.name", optional=ref.optional), ref, where)
    raise InvalidError(f"{where} is not supported")


def _entry(data: Data | None, ref: records.KeySelector, path: str) -> str | None:
    if data is None or (ref.optional and ref.key not in data):
        return None
    if ref.key not in data:
        raise InvalidError(f"{path}.key: there is no key {ref.key!r} in {ref.name!r}")
    return _text(data[ref.key], f"{path}.key: {ref.key!r}")


def _text(data: bytes, path: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"{path} is not UTF-8, and cannot be a variable", hint="mount it as a file") from error
    if "\0" in text or len(data) > LENGTH_MAX:
        raise InvalidError(f"{path} has a NUL or is longer than {LENGTH_MAX} bytes, and cannot be a variable", hint="mount it as a file")
    return text
