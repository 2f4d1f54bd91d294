"""Serves the page of a source project: Flask's own server, and `model.predict` for every request.

Usage: flask_page.py PORT
"""

from __future__ import annotations

import os
import sys

import keras
from flask import Flask, Response, request
from net import SIDE, faces_of

app = Flask(__name__)
_faces = keras.Input((SIDE, SIDE, 1), dtype="uint8")
_layer = keras.layers.TFSMLayer(os.environ["FERSERVE_BENCH_MODEL"], call_endpoint="serving_default")
model = keras.Model(_faces, _layer(_faces)["probabilities"])


@app.post("/predict")  # type: ignore[untyped-decorator]
def predict() -> Response:
    """Classifies raw grey pixels into float32 rows."""
    scores = model.predict(faces_of(request.get_data()), verbose=0)
    return Response(scores.tobytes(), mimetype="application/octet-stream")


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
