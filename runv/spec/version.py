"""What changed between versions of the specification. A configuration gets what its own ``ociVersion`` promises. Pure."""


def since_1_3(version: str) -> bool:
    """Whether a failing poststart hook is fatal, and a pids limit of 0 a limit. ``version`` was checked when it was read."""
    return [int(part) for part in version.split(".")[:2]] >= [1, 3]
