"""Which of the host's cgroups are runv's to remove: those that it made, though others of its containers use them now."""

from runv.errors import StateError
from runv.files import read_text
from runv.quick import loads
from runv.sandbox.layout import SandboxFolder, sandboxes
from runv.state import containers


def claimed(root: str) -> set[str]:
    """The cgroups that containers made, or machines stay in, that are known below ``root``."""
    found: set[str] = set()
    for container in containers(root):
        try:
            found.update(container.load().made_groups)
        except StateError:
            continue  # half-made, or damaged: whoever deletes it finds its own
    for sandbox in sandboxes(root):
        found.update(left_in(sandbox))
    return found


def left_in(sandbox: SandboxFolder) -> list[str]:
    """The cgroups that had to stay when the containers that made them left the sandbox."""
    try:
        groups: list[str] = loads(read_text(sandbox.path("groups.json")))
    except FileNotFoundError:
        return []
    return groups
