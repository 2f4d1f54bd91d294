"""Imports OpenCV and sets it up for a server, for the whole package.

One thread per call: parallelism comes from the threads of the caller, and two levels of it fight over the cores.
Silent: what is wrong with a picture is reported to its caller. libjpeg writes one line of its own to stderr per
damaged JPEG that it can still decode; OpenCV offers no switch for that.
"""

import cv2
import numpy as np
import numpy.typing as npt

cv2.setNumThreads(1)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

GreyImage = npt.NDArray[np.uint8]
"""A picture as shown: uint8 [H, W], grey levels 0-255."""

__all__ = ["GreyImage", "cv2"]
