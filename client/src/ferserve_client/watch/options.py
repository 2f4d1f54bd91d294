"""Holds the options of watching a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ferserve_client.options import TrackingOptions
from ferserve_client.video.encoding import FrameEncoder

if TYPE_CHECKING:
    from ferserve_client.options import DetectionOptions, OverloadPolicy


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Sets the watching of a source."""

    model: str = ""
    version: str | None = None
    policy: OverloadPolicy | None = None
    """None: every frame of recorded videos, the newest of live ones."""
    max_age_ms: int | None = None
    detection: DetectionOptions | None = None
    tracking: TrackingOptions | None = field(default_factory=TrackingOptions)
    encoder: FrameEncoder = field(default_factory=FrameEncoder)
    keep_pixels: bool = False
    """Whether an output needs the pixels of the frames."""
    answer_timeout_s: float = 10.0
    """Longest wait for the answer to one frame; the server counts as lost after it."""
    patience_s: float = 30.0
    """Time for which a lost server or live source is tried again."""
