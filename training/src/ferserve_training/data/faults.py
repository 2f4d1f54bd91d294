"""Decides what a loader does with a file that is not as it should be."""

from collections.abc import Callable

from ferserve_training.errors import DataError

OnFault = Callable[[DataError], None]


def reject(fault: DataError) -> None:
    """End at the first fault."""
    raise fault
