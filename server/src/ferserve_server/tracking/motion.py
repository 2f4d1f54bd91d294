"""Implements a constant-velocity Kalman filter of one face's box. Pure.

Source: Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and Navigation" (2001), section
6.2.2 (discretised white-noise acceleration). Horizontal and vertical position share one covariance, because their
noise is the same share of the box's size. The size itself has no velocity: over the gap between two frames it
hardly changes, and a hidden face must not grow without bound.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from ferserve_server.tracking.boxes import Box

MEASUREMENT_VARIANCE: Final = 0.03**2
"""Variance of a detector's position, in squared sides of the box: YuNet's boxes of a face at rest spread by
0.03."""

ACCELERATION_DENSITY: Final = 3.0
"""Spectral density of the acceleration, in squared sides per second cubed: a head that starts to move reaches 3
sides per second squared for a third of a second."""

FIRST_VELOCITY_VARIANCE: Final = 1.0
"""Variance of the velocity after the first detection, in squared sides per squared second."""


VELOCITY_FADE_S: Final = 0.7
"""Time after which 37 % of a velocity is left. Of a face that walks at 2 sides per second or sways by 0.3 the
prediction is then within 1.3 sides after a second."""


class Motion(NamedTuple):
    """Holds position and velocity of a face: centre in pixels, velocity in pixels per second, size in pixels.

    The last three are the covariance of position and velocity in units of the box's side.
    """

    x: float
    y: float
    x_velocity: float
    y_velocity: float
    width: float
    height: float
    position_variance: float
    covariance: float
    velocity_variance: float

    @property
    def box(self) -> Box:
        """Returns the box of the face."""
        return Box(self.x - self.width / 2, self.y - self.height / 2, self.width, self.height)


def begin(box: Box) -> Motion:
    """Initialises the state from the first detection of a face."""
    x, y = box.center
    return Motion(x, y, 0.0, 0.0, box.width, box.height, MEASUREMENT_VARIANCE, 0.0, FIRST_VELOCITY_VARIANCE)


def predict(motion: Motion, elapsed_s: float) -> Motion:
    """Predicts the state at a later time.

    Args:
        motion: State at some time.
        elapsed_s: Time since then, in seconds, 0 or more.
    """
    t, q = elapsed_s, ACCELERATION_DENSITY
    left = math.exp(-t / VELOCITY_FADE_S)
    reach_s = VELOCITY_FADE_S * (1 - left)
    return motion._replace(
        x=motion.x + motion.x_velocity * reach_s,
        y=motion.y + motion.y_velocity * reach_s,
        x_velocity=motion.x_velocity * left,
        y_velocity=motion.y_velocity * left,
        position_variance=motion.position_variance
        + 2 * t * motion.covariance
        + t * t * motion.velocity_variance
        + q * t**3 / 3,
        covariance=motion.covariance + t * motion.velocity_variance + q * t * t / 2,
        velocity_variance=motion.velocity_variance + q * t,
    )


def correct(motion: Motion, box: Box) -> Motion:
    """Corrects the state by a detection of the same time."""
    x, y = box.center
    total = motion.position_variance + MEASUREMENT_VARIANCE
    gain, velocity_gain = motion.position_variance / total, motion.covariance / total
    return Motion(
        motion.x + gain * (x - motion.x),
        motion.y + gain * (y - motion.y),
        motion.x_velocity + velocity_gain * (x - motion.x),
        motion.y_velocity + velocity_gain * (y - motion.y),
        motion.width + gain * (box.width - motion.width),
        motion.height + gain * (box.height - motion.height),
        (1 - gain) * motion.position_variance,
        (1 - gain) * motion.covariance,
        motion.velocity_variance - velocity_gain * motion.covariance,
    )
