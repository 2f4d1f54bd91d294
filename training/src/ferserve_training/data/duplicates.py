"""Counts faces that occur more than once."""

from collections import Counter
from dataclasses import dataclass

from ferserve_training.data.faces import FaceData


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Counts of byte-identical faces.

    Attributes:
        in_training: Surplus copies inside the training split.
        in_scored: Surplus copies inside the scored split.
        across: Scored faces that training holds too.
        conflicting: Distinct faces that occur under more than one label.
    """

    in_training: int
    in_scored: int
    across: int
    conflicting: int


def count_duplicates(data: FaceData) -> Duplicates:
    """Compare every face with every other."""
    training = Counter(image.tobytes() for image in data.training.images)
    scored = Counter(image.tobytes() for image in data.public_test.images)
    labels: dict[bytes, set[int]] = {}
    for split in (data.training, data.public_test):
        for image, label in zip(split.images, split.labels, strict=True):
            labels.setdefault(image.tobytes(), set()).add(int(label))
    return Duplicates(
        training.total() - len(training),
        scored.total() - len(scored),
        sum(count for face, count in scored.items() if face in training),
        sum(len(found) > 1 for found in labels.values()),
    )
