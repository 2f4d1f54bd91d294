"""Serves with mosec: a Rust front end, two Python workers, batches of requests. Takes mosec's flags (--port)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosec import Server, Worker
from net import Net, faces_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Classifier(Worker):  # type: ignore[misc]  # not installed where types are checked
    """Classifies raw grey pixels into float32 rows."""

    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def deserialize(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Returns the faces of a request."""
        return faces_of(data)

    def serialize(self, data: npt.NDArray[np.float32]) -> bytes:
        """Returns the rows of a request."""
        return data.tobytes()

    def forward(self, data: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
        """Scores the requests of a batch."""
        return self.net.score_together(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Classifier, num=2, max_batch_size=64, max_wait_time=1, timeout=60)
    server.run()
