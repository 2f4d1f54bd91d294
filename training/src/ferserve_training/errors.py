"""Defines the errors that a user can act on; the command line prints one line and exits with 1."""

from pathlib import Path


class TrainingError(Exception):
    """Reports a problem that the user can act on; its text is the whole message."""


class DataError(TrainingError):
    """Reports a data set, or one file of it, that the loader cannot use.

    Args:
        path: The file or folder at fault; a member of an archive is written `archive.zip/member`.
        reason: What is wrong with it, as the end of a sentence.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        # Names that are not UTF-8 hold surrogates, which a terminal cannot show.
        shown = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
        super().__init__(f"{shown}: {reason}")


class RunError(TrainingError):
    """Reports a run directory that cannot be used as requested."""
