"""Imports the optional libraries, or says which extra brings them."""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtraError(ImportError):
    """Reports a feature whose optional libraries are not installed."""


def load_cv2() -> Any:  # noqa: ANN401 - OpenCV ships no types
    """Return OpenCV's module, which writes nothing to stderr.

    Raises:
        MissingExtraError: It is not installed.
    """
    cv2 = _load("cv2", "OpenCV", "video")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def load_av() -> Any:  # noqa: ANN401 - not installed everywhere
    """Return PyAV's module, whose FFmpeg writes nothing to stderr.

    Raises:
        MissingExtraError: It is not installed.
    """
    av = _load("av", "PyAV", "media")
    av.logging.set_level(None)
    return av


def load_parquet() -> Any:  # noqa: ANN401 - not installed everywhere
    """Return the pair of modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        MissingExtraError: PyArrow is not installed.
    """
    return _load("pyarrow", "PyArrow", "parquet"), _load("pyarrow.parquet", "PyArrow", "parquet")


def load_pygame() -> Any:  # noqa: ANN401 - not installed everywhere
    """Return pygame's module.

    Raises:
        MissingExtraError: It is not installed.
    """
    import os  # noqa: PLC0415 - for this one variable

    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    return _load("pygame", "pygame", "window")


def load_figure() -> Any:  # noqa: ANN401 - not installed everywhere
    """Return matplotlib's class `Figure`, which needs no display.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _load("matplotlib.figure", "matplotlib", "plot").Figure


def _load(module: str, library: str, extra: str) -> Any:  # noqa: ANN401 - any module
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"this needs {library}: install ferserve-client[{extra}]") from error
