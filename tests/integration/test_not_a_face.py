"""Tests versions that detect non-faces, with each backend and in engine and worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.backends.selection import EngineSettings, engine_loader
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.manifest import read_manifest
from support.engine_server import tensorflow_server
from support.fake_models import rewrite_manifest
from support.http import http_server
from support.model_factory import publish_model
from support.pictures import encode
from support.tiers import detection_tier

if TYPE_CHECKING:
    from pathlib import Path

DARK = np.full((48, 48), 3, np.uint8)
LIGHT = np.full((48, 48), 200, np.uint8)
POLICIES = {
    face_pb2.NOT_A_FACE_POLICY_UNSPECIFIED: [True],  # a picture sent as one face is marked at most
    face_pb2.NOT_A_FACE_POLICY_MARK: [True],
    face_pb2.NOT_A_FACE_POLICY_IGNORE: [False],
}

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("backend", ["tensorflow", "onnxruntime", "openvino"])
def test_every_backend_gives_the_probability_of_no_face_as_one_column_more(tmp_path: Path, backend: str):
    version = publish_model(tmp_path, onnx=True, not_a_face_threshold=0.5)
    manifest = read_manifest(version)
    loader = engine_loader(backend, EngineSettings(executor_count=1))
    servable = loader.load(ServableId("fer-nano", 1), version, manifest.description)
    try:
        scores = servable.predict(np.stack([DARK, LIGHT, DARK])[..., np.newaxis])
    finally:
        servable.close()
    assert scores.shape == (3, 8)
    assert scores.dtype == np.float32
    assert scores[:, 7].tolist() == pytest.approx([0.9, 0.1, 0.9])
    assert scores[:, :7].sum(axis=1).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("backend", ["tensorflow", "onnxruntime", "openvino"])
def test_a_threshold_for_an_output_that_is_not_there_is_rejected(tmp_path: Path, backend: str):
    version = publish_model(tmp_path, onnx=True)
    rewrite_manifest(
        version,
        {
            "outputs": {"probabilities": "probabilities", "not_a_face": "nobody"},
            "decisions": {"not_a_face_threshold": 0.5},
        },
    )
    loader = engine_loader(backend, EngineSettings(executor_count=1))
    with pytest.raises(ModelRejectedError, match="nobody") as caught:
        loader.load(ServableId("fer-nano", 1), version, read_manifest(version).description)
    assert caught.value.reason == "SIGNATURE_MISMATCH"


async def _faces(server, image: bytes, policy: int) -> list[face_pb2.DetectedFace]:
    request = emotion_pb2.AnalyzeImagesRequest(
        images=[image],
        detection=face_pb2.DetectionOptions(
            face_source=face_pb2.FACE_SOURCE_WHOLE_IMAGE, not_a_face_policy=policy
        ),
    )
    return list((await server.emotion.AnalyzeImages(request)).results[0].analysis.faces)


@pytest.mark.parametrize("settings", [{"engine": "process"}, {"engine": "thread"}, {"processes": 2}], ids=str)
async def test_marks_and_uncertain_faces_arrive_through_every_process(tmp_path: Path, settings: dict):
    publish_model(tmp_path, not_a_face_threshold=0.5)
    chosen = {"engine": "process"} | settings
    async with tensorflow_server(tmp_path, **chosen) as server:
        for policy, marks in POLICIES.items():
            faces = await _faces(server, encode(DARK, "PNG"), policy)
            assert [face.not_a_face for face in faces] == marks
            assert len(faces[0].prediction.scores) == 7
        (face,) = await _faces(server, encode(LIGHT, "PNG"), face_pb2.NOT_A_FACE_POLICY_MARK)
        assert not face.not_a_face
        packed = face_pb2.PackedFaces(pixels=np.stack([DARK, LIGHT] * 3).tobytes(), face_count=6)
        answer = await server.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(packed=packed))
        for result in answer.results:  # the version's threshold is 0.99
            assert len(result.prediction.scores) == 7
            assert result.prediction.uncertain == (max(result.prediction.scores) < 0.99)


async def test_a_detection_tier_drops_marks_and_doubts_as_its_model_tier_does(tmp_path: Path):
    publish_model(tmp_path, not_a_face_threshold=0.5)
    async with tensorflow_server(tmp_path, engine="thread") as tier, detection_tier(tier.address) as front:
        for policy in POLICIES:
            for image in (DARK, LIGHT):
                direct, forwarded = [await _faces(each, encode(image, "PNG"), policy) for each in (tier, front)]
                assert forwarded == direct
                assert direct[0].prediction.uncertain == (max(direct[0].prediction.scores) < 0.99)
        direct, forwarded = [
            (await each.models.GetModel(model_pb2.GetModelRequest())).model for each in (tier, front)
        ]
    assert forwarded == direct
    assert direct.versions[0].not_a_face_threshold == 0.5
    assert direct.versions[0].uncertain_threshold == 0.99


async def test_encoded_faces_that_cannot_be_read_leave_the_others_their_probability_of_no_face(tmp_path: Path):
    publish_model(tmp_path, not_a_face_threshold=0.5)
    images = [encode(DARK, "PNG"), b"no picture", encode(LIGHT, "PNG")]
    request = emotion_pb2.ClassifyFacesRequest(encoded=face_pb2.EncodedFaces(images=images))
    async with tensorflow_server(tmp_path, engine="thread") as server:
        answer = await server.emotion.ClassifyFaces(request)
    assert [result.WhichOneof("outcome") for result in answer.results] == ["prediction", "failure", "prediction"]
    assert answer.not_a_face_scores == pytest.approx([0.9, 0, 0.1])


async def test_json_has_the_same_names(tmp_path: Path):
    half_light = np.concatenate([DARK[:24], LIGHT[24:]])
    manifest = {
        "outputs": {"probabilities": "probabilities", "not_a_face": "not_a_face"},
        "decisions": {"not_a_face_threshold": 0.5, "uncertain_threshold": 0.8},
    }
    async with http_server(tmp_path, manifest=manifest) as server:
        for image, marked in ((DARK, True), (half_light, False)):
            answer = await server.ask(
                "/v1/analyze?detect=false&not_a_face_policy=mark",
                encode(image, "PNG"),
                headers={"Content-Type": "image/png"},
            )
            (face,) = answer.json["results"][0]["faces"]
            assert face.get("not_a_face", False) is marked
            assert face["uncertain"] is True
            assert face["score"] == 1.0
            assert "landmarks" not in face
