"""The seven expressions of FER-2013."""

from typing import Final

LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Names of the classes in FER-2013's canonical order (its `emotion` column, 0 to 6).

They name apparent expressions, not felt emotions.
"""
