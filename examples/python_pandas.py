"""Makes a table of the faces in a folder: python python_pandas.py FOLDER [--server HOST:PORT].

Needs pandas. For thousands of pictures write the table with `ferserve folder FOLDER --out faces.csv`, which is
resumable, and read it with `pandas.read_csv`.
"""

import argparse
from pathlib import Path

import pandas as pd

from ferserve_client import EmotionClient

PICTURES_PER_CALL = 8

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("--server", default="localhost:50051")
options = parser.parse_args()

paths = sorted(path for path in options.folder.iterdir() if path.suffix in {".jpg", ".png", ".webp"})
rows = []
with EmotionClient(options.server) as client:
    for start in range(0, len(paths), PICTURES_PER_CALL):
        group = paths[start : start + PICTURES_PER_CALL]
        for path, analysis in zip(group, client.analyze([path.read_bytes() for path in group]), strict=True):
            rows += [
                {"picture": path.name, "width": face.box.width, "emotion": face.prediction.emotion}
                | face.prediction.scores
                for face in analysis.faces
                if face.prediction
            ]
faces = pd.DataFrame(rows)
print(faces.round(3).to_string(index=False))
if rows:
    print(faces["emotion"].value_counts().to_string())
