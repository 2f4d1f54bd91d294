"""Tests files of models that are malformed, or ask for too much memory."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.models.golden import read_golden
from ferserve_server.models.manifest import MANIFEST_PATH, read_manifest
from support.fake_models import DESCRIPTION, publish_fake

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"labels": ' * 100_000, "[" * (5 << 20)], ids=["list", "map", "long"]
)
def test_a_manifest_that_is_nested_or_long_without_measure_is_rejected(tmp_path: Path, text: str) -> None:
    folder = publish_fake(tmp_path)
    (folder / MANIFEST_PATH).write_text(text)
    with pytest.raises(ModelRejectedError) as caught:
        read_manifest(folder)
    assert caught.value.reason == "MANIFEST_INVALID"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"input": {"name": "x", "dtype": "uint8", "height": 10**9, "width": 48, "channels": 1}}, "4096 pixels"),
        ({"labels": [str(number) for number in range(1001)]}, "1000 labels"),
    ],
)
def test_a_manifest_that_asks_for_memory_without_measure_is_rejected(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    path = publish_fake(tmp_path) / MANIFEST_PATH
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelRejectedError, match=why):
        read_manifest(path.parents[1])


def _npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


_FACES = np.zeros((2, 48, 48, 1), np.uint8)


_SCORES = np.zeros((2, 7), np.float32)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        _npz(faces=_npy(_FACES)),
        _npz(faces=_npy(_FACES), probabilities=b"no array"),
        _npz(faces=_npy(_FACES)[:-5], probabilities=_npy(_SCORES)),
        _npz(faces=_npy(_FACES), probabilities=_npy(np.array(["text"]))),
        _npz(faces=_npy(_FACES), probabilities=_npy(np.array([object()], dtype=object))),
        _npz(faces=_npy(_FACES[:0]), probabilities=_npy(_SCORES)),
        _npz(faces=_npy(np.zeros((70_000, 1, 1, 1), np.uint8)), probabilities=_npy(_SCORES)),
        _npz(faces=bytes(65 << 20), probabilities=_npy(_SCORES)),
        _npz(
            faces=_npy(_FACES).replace(b"(2, 48", b"(-2, 48").replace(b"  \n", b" \n"), probabilities=_npy(_SCORES)
        ),
        _npz(**{f"array{number}": b"" for number in range(17)}),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_a_golden_set_that_is_none_is_rejected_whatever_it_is(tmp_path: Path, content: bytes) -> None:
    folder = publish_fake(tmp_path)
    (folder / "assets.extra" / "golden.npz").write_bytes(content)
    with pytest.raises(ModelRejectedError) as caught:
        read_golden(folder, DESCRIPTION.input)
    assert caught.value.reason == "GOLDEN_INVALID"


def test_a_golden_set_that_numpy_wrote_is_read(tmp_path: Path) -> None:
    golden = read_golden(publish_fake(tmp_path), DESCRIPTION.input)
    assert golden.faces.shape == (3, 48, 48, 1)
    assert golden.scores.dtype == np.float32
