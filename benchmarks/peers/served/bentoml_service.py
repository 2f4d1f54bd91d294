"""Serves with BentoML: two workers, each with adaptive batches of faces. It takes JSON with faces in base64."""

import base64

import bentoml
from net import Net, faces_of

# BentoML reads the annotations at run time, so they are not deferred here.


@bentoml.service(name="fer_nano", workers=2, traffic={"timeout": 60})
class Classifier:
    """Classifies {"faces": [base64, ...]} into rows."""

    def __init__(self) -> None:
        self.net = Net()

    @bentoml.api(batchable=True, max_batch_size=128, max_latency_ms=10_000)  # type: ignore[untyped-decorator]
    def classify(self, faces: list[str]) -> list[list[float]]:
        """Scores faces, one a string."""
        pixels = b"".join(base64.b64decode(face) for face in faces)
        scores: list[list[float]] = self.net(faces_of(pixels)).tolist()
        return scores
