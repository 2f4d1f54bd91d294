"""Serves with Triton: a model for its Python backend, two instances, dynamic batches (see catalogue.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from net import Net


class TritonPythonModel:
    """Classifies `faces` into `probabilities`. Triton batches across requests and passes a list."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the net in an instance's process."""
        del args
        self.net = Net()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Scores the requests of a batch."""
        faces = [triton.get_input_tensor_by_name(request, "faces").as_numpy() for request in requests]
        return [
            triton.InferenceResponse([triton.Tensor("probabilities", np.ascontiguousarray(scores))])
            for scores in self.net.score_together(faces)
        ]
