"""OpenCV, where it is installed."""

from __future__ import annotations

import importlib
import os
from typing import Any


class MissingExtraError(ImportError):
    """A feature was used whose optional libraries are not installed."""


def load_cv2() -> Any:  # noqa: ANN401 - OpenCV ships no types
    """OpenCV's module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingExtraError("this needs OpenCV: install ferserve-client[video]") from error


def silence() -> None:
    """Keep OpenCV and FFmpeg from writing to stderr. For programs that say themselves what is wrong.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when a video is opened
    cv2 = load_cv2()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
