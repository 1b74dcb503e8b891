"""How much a pod file may become. One ConfigMap can be named a thousand times, and one template have a hundred replicas."""

from collections.abc import Iterable, Mapping

from hyperd import spec
from hyperd.errors import InvalidError

# Of one pod's files and variables: they are stored with it, and written whenever a container starts.
POD_BYTES_MAX = 8 << 20
# Of all that one file describes.
BYTES_MAX = 64 << 20
PODS_MAX = 500
# As execve(2) takes them, with the usual stack.
ENVIRONMENT_MAX = 2 << 20
# What anything costs, however short.
_EACH = 16


def check_weight(size: int, path: str, most: int = POD_BYTES_MAX) -> None:
    """:raise InvalidError: ``size`` bytes are too many"""
    if size > most:
        raise InvalidError(f"{path}: more than {most >> 20} MiB of files and variables", hint="put large files on a volume")


def files_weight(files: Iterable[spec.File]) -> int:
    """Characters in files, an empty one counted as well."""
    return sum(len(file.content) + len(file.path) + _EACH for file in files)


def texts_weight(texts: Mapping[str, str]) -> int:
    """Characters in variables."""
    return sum(len(name) + len(text) + _EACH for name, text in texts.items())


def container_weight(container: spec.Container) -> int:
    """Characters in files, variables and words."""
    variables = sum(len(name) + len(value) + _EACH for name, value in container.environment)
    return variables + sum(len(word) for word in (*container.command, *container.args)) + files_weight(container.files)


def weight_of(pod: spec.Pod) -> int:
    """Characters of all that a pod has."""
    volumes = sum(files_weight(volume.source.files) for volume in pod.volumes if isinstance(volume.source, spec.Projected))
    return volumes + sum(container_weight(each) for each in (*pod.init_containers, *pod.containers))
