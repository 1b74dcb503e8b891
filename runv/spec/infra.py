"""The infra container of a pod: it holds the namespaces that the pod's containers share, and runs nothing but a wait of the guest's own. Pure."""

from runv.errors import ConfigError
from runv.spec.annotations import INFRA, LAYERS
from runv.spec.config import Document, Mount, Raw
from runv.spec.process import Process
from runv.spec.records import convert

# Of the program it needs neither a file nor any power.
_PROCESS: Raw = {"args": ["pause"], "cwd": "/", "noNewPrivileges": True, "capabilities": {}}
_DEV: Raw = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}


def settle_infra(document: Document) -> Document:
    """``document`` as it is, or, for an infra container, without what such a one does not have: its program and mounts.

    :raise ConfigError: the annotation is neither "true" nor "false"
    """
    word = (document.config.annotations or {}).get(INFRA, "false")
    if word not in ("true", "false"):
        raise ConfigError(f'config.json: $.annotations: {INFRA} must be "true" or "false", not {word!r}')
    if word == "false":
        return document
    given = document.raw.get("process") or {}
    process = _PROCESS | {"oomScoreAdj": given.get("oomScoreAdj", 0)}
    # With layers it has a root that somebody wants to look at: the devices that every container has are not to be in it, but what is given lies over it.
    given_mounts = document.raw.get("mounts") or []
    mounts = [_DEV, *given_mounts] if LAYERS in (document.config.annotations or {}) else []
    linux = {key: value for key, value in (document.raw.get("linux") or {}).items() if key not in ("seccomp", "maskedPaths", "readonlyPaths")}
    config = document.config.replace(process=Process(process, "config.json: $.process"), mounts=convert(mounts, list[Mount], "config.json: $.mounts"))
    return Document(config, document.raw | {"process": process, "mounts": mounts, "linux": linux})
