"""What the parts of one pod may refer to, and where their warnings go."""

from typing import NamedTuple

from hyperd.errors import InvalidError
from hyperd.manifests.kubernetes import records
from hyperd.manifests.kubernetes.store import Data, Store


class Scope(NamedTuple):
    """``requirements``: of the containers by name."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    service_account: str
    requirements: dict[str, records.Requirements]
    store: Store
    warnings: list[str]

    def config_map(self, name: str, path: str, *, optional: bool) -> Data | None:
        """None: it is not there, and need not be."""
        return self._found("ConfigMap", self.store.config_maps.get((self.namespace, name)), name, path, optional)

    def secret(self, name: str, path: str, *, optional: bool) -> Data | None:
        """As ``config_map``."""
        return self._found("Secret", self.store.secrets.get((self.namespace, name)), name, path, optional)

    def _found(self, kind: str, data: Data | None, name: str, path: str, optional: bool) -> Data | None:
        if data is None and not optional:
            raise InvalidError(
                f"{path}: there is no {kind} {name!r}", hint=f"put the {kind} into the pod file, or give its file as well"
            )
        return data

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def one_of(found: dict[str, object], path: str, what: str) -> str:
    """The one name whose value is not None."""
    given = [name for name, value in found.items() if value is not None]
    if len(given) != 1:
        several = f"only one of {' and '.join(given)} can be given" if given else f"needs one of {', '.join(found)}"
        raise InvalidError(f"{path}: {what} {several}" if what else f"{path}: {several}")
    return given[0]
