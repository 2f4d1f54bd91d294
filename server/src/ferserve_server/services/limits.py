"""Defines the bounds of requests, checked on arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ferserve_server.domain.errors import InvalidRequestError, LimitExceededError

MAX_CROP_SIDE_PIXELS: Final = 1024
"""Maximum side of a packed face, because above it a caller means whole pictures."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Defines the bounds of one request; the names are those of the settings."""

    max_message_bytes: int
    max_metadata_bytes: int
    max_faces_per_request: int
    max_images_per_request: int
    max_detection_side_pixels: int

    def check_message(self, byte_count: int) -> None:
        """Rejects a message that is too long.

        Raises:
            LimitExceededError: MESSAGE_TOO_LARGE.
        """
        if byte_count > self.max_message_bytes:
            raise LimitExceededError(
                "MESSAGE_TOO_LARGE",
                what="bytes of the message",
                value=byte_count,
                limit=self.max_message_bytes,
                setting="max_message_bytes",
                field="",
            )

    def check_metadata(self, byte_count: int) -> None:
        """Rejects metadata that is too long.

        Raises:
            LimitExceededError: METADATA_TOO_LARGE.
        """
        if byte_count > self.max_metadata_bytes:
            raise LimitExceededError(
                "METADATA_TOO_LARGE",
                what="bytes of the call's metadata",
                value=byte_count,
                limit=self.max_metadata_bytes,
                setting="max_metadata_bytes",
                field="",
            )

    def check_face_count(self, face_count: int, field: str) -> None:
        """Rejects requests without faces, and with too many.

        Raises:
            InvalidRequestError: FACES_REQUIRED or TOO_MANY_FACES.
        """
        if face_count < 1:
            raise InvalidRequestError("FACES_REQUIRED", f"{field}: send one face or more.", field=field)
        if face_count > self.max_faces_per_request:
            raise LimitExceededError(
                "TOO_MANY_FACES",
                what="faces in the request",
                value=face_count,
                limit=self.max_faces_per_request,
                setting="max_faces_per_request",
                field=field,
            )

    def check_image_count(self, image_count: int) -> None:
        """Rejects requests without pictures, and with too many.

        Raises:
            InvalidRequestError: IMAGES_REQUIRED or TOO_MANY_IMAGES.
        """
        if image_count < 1:
            raise InvalidRequestError("IMAGES_REQUIRED", "images: send one picture or more.", field="images")
        if image_count > self.max_images_per_request:
            raise LimitExceededError(
                "TOO_MANY_IMAGES",
                what="pictures in the request",
                value=image_count,
                limit=self.max_images_per_request,
                setting="max_images_per_request",
                field="images",
            )
