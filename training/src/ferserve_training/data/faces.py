"""Holds labelled faces in memory."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ferserve_training.labels import CLASS_COUNT


@dataclass(frozen=True, slots=True)
class LabelledFaces:
    """Faces of one split.

    Attributes:
        images: uint8 [N, 48, 48, 1], grey levels.
        labels: int32 [N], indices into `LABELS`.
        names: N file names without their folder.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def class_counts(self) -> tuple[int, ...]:
        """Count the faces of each class, in the order of `LABELS`."""
        return tuple(int(count) for count in np.bincount(self.labels, minlength=CLASS_COUNT))

    def where(self, wanted: npt.NDArray[np.bool_]) -> "LabelledFaces":
        """Keep the faces that are marked, bool [N]."""
        names = tuple(name for name, keep in zip(self.names, wanted, strict=True) if keep)
        return LabelledFaces(self.images[wanted], self.labels[wanted], names)

    def spread(self, face_count: int) -> "LabelledFaces":
        """Pick at most `face_count` faces, evenly over the split, so that every large class is present."""
        picked = np.linspace(0, len(self) - 1, min(face_count, len(self))).astype(int)
        return LabelledFaces(
            self.images[picked], self.labels[picked], tuple(self.names[index] for index in picked)
        )


@dataclass(frozen=True, slots=True)
class FaceData:
    """Holds a data set.

    Attributes:
        training: What a net may learn from.
        public_test: What models are selected and calibrated on; never trained on.
        sha256: Digest of the splits, labels, names and pixels; the same for an archive and its unpacked folder.
        split: What `public_test` is: 'PublicTest', 'validation' for a set of the user's own, or 'PrivateTest'
            where it was asked for.
    """

    training: LabelledFaces
    public_test: LabelledFaces
    sha256: str
    split: str = "PublicTest"

    def reduced(self, face_count: int) -> "FaceData":
        """Keep at most `face_count` faces a split, for smoke runs. The digest stays that of the source."""
        return replace(
            self, training=self.training.spread(face_count), public_test=self.public_test.spread(face_count)
        )
