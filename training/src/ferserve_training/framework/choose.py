"""Asks which framework computes; nothing else does."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol, cast

import keras

from ferserve_training.errors import TrainingError

_MODULES: Final = {
    "tensorflow": "ferserve_training.framework.on_tensorflow",
    "jax": "ferserve_training.framework.on_jax",
}

Tensor = Any
"""An array of the framework in use; neither ships types."""
Device = Any
"""What the framework calls a device."""


class Framework(Protocol):
    """Defines what Keras leaves to the framework under it. Draws depend on nothing but what is passed."""

    NAME: str

    def versions(self) -> str:
        """Name what computes, for the records: `tensorflow 2.21.0, keras 3.15.1`."""

    def limit_threads(self, count: int) -> None:
        """Compute with `count` threads; only before the first operation."""

    def devices(self) -> tuple[Sequence[Device], Sequence[Device]]:
        """List the GPUs and the CPU's devices, of which there is one unless it was split."""

    def uniform(self, shape: Sequence[Any], seed: Tensor, stream: int) -> Tensor:
        """Draw float32 numbers from [0, 1); `seed` is int32 [2], and each stream has draws of its own."""

    def gamma(self, shape: Sequence[Any], seed: Tensor, stream: int, alpha: float) -> Tensor:
        """Draw float32 numbers from the gamma distribution of rate 1, likewise."""

    def normal(self, shape: Sequence[Any], seed: Tensor, stream: int) -> Tensor:
        """Draw float32 numbers from the standard normal distribution, likewise."""

    def warp(self, images: Tensor, transforms: Tensor, fill: str) -> Tensor:
        """Sample float32 images [N, H, W, 1] where `transforms`, float32 [N, 8], send each pixel, bilinearly.

        The first six map an output pixel (x, y) to the input's (a0 x + a1 y + a2, b0 x + b1 y + b2), the last two
        are 0. Beyond the edge lies the picture mirrored ('REFLECT') or its outermost pixel ('NEAREST').
        """


def _pin_keras_settings() -> None:
    """Set what a user's keras.json may have changed; the nets are written for these values."""
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_dtype_policy("float32")


_pin_keras_settings()


@cache  # also keeps AutoGraph from looking inside
def framework() -> Framework:
    """Give the framework that `KERAS_BACKEND` names.

    Raises:
        TrainingError: It is another than TensorFlow and JAX.
    """
    name = keras.config.backend()
    if name not in _MODULES:
        raise TrainingError(f"KERAS_BACKEND is {name}; nets are trained with tensorflow or jax")
    return cast("Framework", import_module(_MODULES[name]))


def require_tensorflow(purpose: str) -> None:
    """Reject what only TensorFlow can do.

    Args:
        purpose: Such as 'exporting', the beginning of the message.

    Raises:
        TrainingError: Another framework computes.
    """
    name = keras.config.backend()
    if name != "tensorflow":
        raise TrainingError(
            f"{purpose} needs TensorFlow, but KERAS_BACKEND is {name}; do it without KERAS_BACKEND, "
            "on a machine that has TensorFlow: a run may be copied there"
        )
