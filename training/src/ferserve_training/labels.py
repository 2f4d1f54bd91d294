"""Lists the seven classes of FER-2013, in the order of every score vector of ferserve."""

from typing import Final

LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CLASS_COUNT: Final = len(LABELS)
FACE_SIZE: Final = 48
"""Height and width of a face in pixels."""
VOTES: Final = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear"),
    *("contempt", "unknown", "NF"),
)
"""What the taggers of FER+ chose from, in the order of its columns; the last is 'not a face'."""
VOTE_COUNT: Final = len(VOTES)
