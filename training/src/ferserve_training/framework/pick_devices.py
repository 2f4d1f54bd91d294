"""Picks the devices that a run computes on."""

from collections.abc import Sequence
from typing import Any

from ferserve_training.errors import TrainingError


def pick_devices(found: tuple[Sequence[Any], Sequence[Any]], wanted: int | None, batch_size: int) -> Sequence[Any]:
    """Pick devices that share each batch.

    Args:
        found: The GPUs, and the CPU's devices.
        wanted: How many; None for all GPUs, or for one of the CPU's devices where there is no GPU.
        batch_size: Faces a step, over all devices.

    Returns:
        At least one.

    Raises:
        TrainingError: There are not so many, or the batch cannot be split evenly.
    """
    gpus, cpus = found
    there, kind = (gpus, "GPU") if gpus else (cpus, "CPU device")
    count = wanted or len(gpus) or 1
    if count > len(there):
        have = f"is 1 {kind}" if len(there) == 1 else f"are {len(there)} {kind}s"
        raise TrainingError(f"there {have}, not {count}; give a smaller number of --devices, or leave it out")
    if batch_size % count:
        fitting = batch_size + count - batch_size % count
        raise TrainingError(
            f"a batch of {batch_size} faces cannot be split evenly over {count} devices; "
            f"add --set batch_size={fitting}, or give another number of --devices"
        )
    return there[:count]
