"""Adapts JAX: named in the records, drawing from seeds alone; TensorFlow need not be installed."""

from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import keras

NAME: Final = "jax"


def versions() -> str:
    """Name what computes, for the records: `jax 0.10.2, keras 3.15.1`."""
    return f"jax {jax.__version__}, keras {keras.__version__}"


def limit_threads(count: int) -> None:
    """Do nothing: XLA takes the cores that the process may use, and has no setting for fewer."""


def devices() -> tuple[list[jax.Device], list[jax.Device]]:
    """List the GPUs and the CPU's devices of this process."""
    gpus = [device for device in jax.local_devices() if device.platform == "gpu"]
    return gpus, jax.local_devices(backend="cpu")


def uniform(shape: Sequence[Any], seed: jax.Array, stream: int) -> jax.Array:
    """Draw float32 numbers from [0, 1); see `Framework`."""
    return jax.random.uniform(_key(seed, stream), shape, jnp.float32)


def gamma(shape: Sequence[Any], seed: jax.Array, stream: int, alpha: float) -> jax.Array:
    """Draw float32 numbers from a gamma distribution; see `Framework`."""
    return jax.random.gamma(_key(seed, stream), alpha, shape, jnp.float32)


def normal(shape: Sequence[Any], seed: jax.Array, stream: int) -> jax.Array:
    """Draw float32 numbers from the standard normal distribution; see `Framework`."""
    return jax.random.normal(_key(seed, stream), shape, jnp.float32)


def warp(images: jax.Array, transforms: jax.Array, fill: str) -> jax.Array:
    """Sample images at other places; see `Framework`.

    Keras's own `affine_transform` gathers eight neighbours on JAX, since it takes the channel for a third axis,
    and multiplies coordinates as matrices, which a GPU does with 10 bits. Here are four neighbours in float32.
    """
    count, height, width, _ = images.shape
    y, x = jnp.meshgrid(jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing="ij")
    a0, a1, a2, b0, b1, b2 = (transforms[:, index, None, None] for index in range(6))
    columns = _inside(a0 * x + a1 * y + a2, width, fill)
    rows = _inside(b0 * x + b1 * y + b2, height, fill)
    left, top = jnp.floor(columns), jnp.floor(rows)
    right_share, low_share = columns - left, rows - top
    flat = images.reshape(count, height * width)

    def pixels(down: int, across: int) -> jax.Array:
        row = jnp.minimum(top.astype(jnp.int32) + down, height - 1)
        column = jnp.minimum(left.astype(jnp.int32) + across, width - 1)
        places = (row * width + column).reshape(count, -1)
        return jnp.take_along_axis(flat, places, axis=1).reshape(count, height, width)

    upper = (1.0 - right_share) * pixels(0, 0) + right_share * pixels(0, 1)
    lower = (1.0 - right_share) * pixels(1, 0) + right_share * pixels(1, 1)
    return ((1.0 - low_share) * upper + low_share * lower)[..., None]


def _inside(places: jax.Array, size: int, fill: str) -> jax.Array:
    """Bring coordinates into [0, size - 1]: mirrored at the outer rims of the outermost pixels, or clipped."""
    if fill == "REFLECT":
        places = size - jnp.abs((places + 0.5) % (2 * size) - size) - 0.5
    return jnp.clip(places, 0.0, size - 1.0)


def _key(seed: jax.Array, stream: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed[0]), seed[1]), stream)
