"""The one exception of the lab."""


class LabError(Exception):
    """The lab could not be set up, or broke: nothing is known about the command. ``hint`` says what may help."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
