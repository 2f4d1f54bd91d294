"""Finds and classifies the faces of pictures: python python_sync.py PICTURE... [--server HOST:PORT]."""

import argparse
from pathlib import Path

from ferserve_client import EmotionClient, FerserveError

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("pictures", nargs="+", type=Path)
parser.add_argument("--server", default="localhost:50051")
options = parser.parse_args()

try:
    with EmotionClient(options.server) as client:
        analyses = client.analyze([path.read_bytes() for path in options.pictures])
except FerserveError as error:
    raise SystemExit(f"{error.reason}: {error.message}") from error
for path, analysis in zip(options.pictures, analyses, strict=True):
    if analysis.error is not None:  # a broken picture does not fail its neighbours
        print(path.name, analysis.error.reason)
    for face in analysis.faces:
        if face.prediction is not None:
            emotion, confidence = face.prediction.emotion, face.prediction.confidence
            print(path.name, face.box.left, face.box.top, emotion, f"{confidence:.0%}")
