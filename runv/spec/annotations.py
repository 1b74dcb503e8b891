"""Which container belongs to which sandbox, as containerd's CRI plugin and CRI-O say it in annotations. Pure."""

_KINDS = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")
_SANDBOXES = ("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID")


def sandbox_of(annotations: dict[str, str]) -> str:
    """The id of the container whose sandbox this one joins; empty when it brings a sandbox of its own."""
    for kind_key, sandbox_key in zip(_KINDS, _SANDBOXES, strict=True):
        if annotations.get(kind_key) == "container":
            return annotations.get(sandbox_key, "")
    return ""
