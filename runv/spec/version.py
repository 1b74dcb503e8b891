"""What changed between versions of the specification. A configuration gets what its own ``ociVersion`` promises. Pure.

====  ====================================================================================
1.1   a capability that is unknown is told, and no error any more
1.3   a poststart hook that fails is fatal; a pids limit of 0 is a limit, and not none
====  ====================================================================================
"""


def since(version: str, minor: int) -> bool:
    """Whether ``version``, which was checked when it was read, is 1.``minor`` or later."""
    return [int(part) for part in version.split(".")[:2]] >= [1, minor]
