"""Adapts TensorFlow: few threads, named in the records, drawing from seeds alone."""

import contextlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import keras
import tensorflow as tf

NAME: Final = "tensorflow"


def versions() -> str:
    """Name what computes, for the records: `tensorflow 2.21.0, keras 3.15.1`."""
    return f"tensorflow {tf.__version__}, keras {keras.__version__}"


def limit_threads(count: int) -> None:
    """Let TensorFlow compute with `count` threads. Once it has started in this process, it keeps those it has."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def devices() -> tuple[list[str], list[str]]:
    """List the GPUs and the CPU's devices by name."""
    gpus, cpus = ([device.name for device in tf.config.list_logical_devices(kind)] for kind in ("GPU", "CPU"))
    return gpus, cpus


@cache
def strategy_on(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Give the way to spread steps over devices; none or one: TensorFlow's default.

    There is one for the same devices in a process: a second would number its reductions as the first did, and
    TensorFlow takes them for each other.
    """
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def uniform(shape: Sequence[Any], seed: tf.Tensor, stream: int) -> tf.Tensor:
    """Draw float32 numbers from [0, 1); see `Framework`."""
    return tf.random.stateless_uniform(shape, seed + tf.constant([stream, 0]))


def gamma(shape: Sequence[Any], seed: tf.Tensor, stream: int, alpha: float) -> tf.Tensor:
    """Draw float32 numbers from a gamma distribution; see `Framework`."""
    return tf.random.stateless_gamma(shape, seed + tf.constant([stream, 0]), alpha)


def normal(shape: Sequence[Any], seed: tf.Tensor, stream: int) -> tf.Tensor:
    """Draw float32 numbers from the standard normal distribution; see `Framework`."""
    return tf.random.stateless_normal(shape, seed + tf.constant([stream, 0]))


def warp(images: tf.Tensor, transforms: tf.Tensor, fill: str) -> tf.Tensor:
    """Sample images at other places; see `Framework`."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill,
    )
