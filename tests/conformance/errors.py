"""The one exception of the conformance run."""


class ConformanceError(Exception):
    """The programs could not be run: nothing is known about any runtime."""
