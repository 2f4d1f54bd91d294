"""Serves with MLServer: a custom runtime in two parallel workers, with adaptive batching (see catalogue.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from net import SIDE, Net

if TYPE_CHECKING:
    from mlserver.types import InferenceRequest


class Classifier(MLModel):  # type: ignore[misc]  # not installed where types are checked
    """Classifies `faces` into `probabilities`, by the Open Inference Protocol."""

    async def load(self) -> bool:
        """Loads the net in a worker."""
        self.net = Net()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Scores the faces of a batch."""
        faces = NumpyCodec.decode_input(payload.inputs[0]).astype(np.uint8, copy=False)
        scores = self.net(faces.reshape(-1, SIDE, SIDE, 1))
        output = NumpyCodec.encode_output("probabilities", scores)
        return InferenceResponse(model_name=self.name, outputs=[output])
