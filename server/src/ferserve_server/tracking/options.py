"""Defines the options of tracking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class TrackingOptions:
    """Holds the options of tracking over the frames of a stream. All times are of the video, not of frames.

    Attributes:
        smoothing_half_life_s: Half-life of the exponential smoothing of scores, in seconds, above 0 to 10.
        max_lost_s: Time for which a face that is not found keeps its track, in seconds, above 0 to 60.
        full_search_interval_s: Longest time between two searches of the full frame, in seconds, above 0 to 10.
        max_tracks: Largest number of faces that are followed at once, 1 or more.
    """

    smoothing_half_life_s: float = 0.15
    max_lost_s: float = 1.5
    full_search_interval_s: float = 0.5
    max_tracks: int = 64


DEFAULT_TRACKING: Final = TrackingOptions()
"""Default options."""
