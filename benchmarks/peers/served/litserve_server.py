"""Serves with LitServe: uvicorn with two workers, batches of requests. It takes JSON with faces in base64.

Usage: litserve_server.py PORT
"""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING, Any

import litserve
from net import Net, faces_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # not installed where types are checked
    """Classifies {"faces": base64} into {"scores": rows}."""

    def setup(self, device: str) -> None:
        """Loads the net in a worker."""
        del device
        self.net = Net()

    def decode_request(self, request: dict[str, str]) -> npt.NDArray[np.uint8]:
        """Returns the faces of a request."""
        return faces_of(base64.b64decode(request["faces"]))

    def batch(self, inputs: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        """Keeps a batch as a list: requests bring different numbers of faces."""
        return inputs

    def predict(self, inputs: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
        """Scores the requests of a batch."""
        return self.net.score_together(inputs)

    def unbatch(self, output: list[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        """Returns the rows of each request."""
        return output

    def encode_response(self, output: npt.NDArray[np.float32]) -> dict[str, Any]:
        """Returns the answer to a request."""
        return {"scores": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Classifier(max_batch_size=64, batch_timeout=0.001),
        accelerator="cpu",
        devices=1,
        workers_per_device=2,
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
