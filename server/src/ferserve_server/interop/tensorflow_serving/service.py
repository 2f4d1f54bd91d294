"""Implements tensorflow.serving.PredictionService and ModelService: converts messages to use cases and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.errors import InvalidRequestError, VersionNotFoundError
from ferserve_server.domain.servable import ServableState
from ferserve_server.interop import faces
from ferserve_server.interop.classification import Question
from ferserve_server.interop.messages import (
    MODEL_STATUS_SERVICE,
    PREDICTION_SERVICE,
    generic_handler,
    message_class,
)
from ferserve_server.interop.tensorflow_serving import tensors
from ferserve_server.services.callers import caller_of_context
from ferserve_server.services.codec.messages import parse_alias
from ferserve_server.services.status import code_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.prediction import Classification
    from ferserve_server.domain.servable import ModelDescription, ModelSpec, ModelStatus, ServableId
    from ferserve_server.interop.classification import WholeTensors
    from ferserve_server.interop.messages import GenericHandler, Message
    from ferserve_server.services.calls import Calls, Context
    from ferserve_server.services.limits import RequestLimits

_SIGNATURE: Final = "serving_default"
_PREDICT: Final = "tensorflow/serving/predict"
# Numbers of ModelVersionStatus.State.
_STATES: Final = {
    ServableState.WAITING: 10,
    ServableState.LOADING: 20,
    ServableState.READY: 30,
    ServableState.DRAINING: 40,
    ServableState.UNLOADED: 50,
    ServableState.FAILED: 50,
}


class TensorFlowServingServicer:
    """Implements `tensorflow.serving.PredictionService` and `ModelService` in part. Event loop only."""

    def __init__(
        self,
        calls: Calls,
        whole_tensors: WholeTensors,
        model: Callable[[str], ModelStatus],
        limits: RequestLimits,
    ) -> None:
        self._calls = calls
        self._tensors = whole_tensors
        self._model = model
        self._limits = limits

    def handlers(self) -> Sequence[GenericHandler]:
        """Returns the services' handlers for a server."""
        unary = self._calls.unary
        return (
            generic_handler(
                PREDICTION_SERVICE,
                {
                    "Predict": unary("Predict", self._predict, service=PREDICTION_SERVICE),
                    "GetModelMetadata": unary(
                        "GetModelMetadata", self._get_model_metadata, service=PREDICTION_SERVICE
                    ),
                },
            ),
            generic_handler(
                MODEL_STATUS_SERVICE,
                {"GetModelStatus": unary("GetModelStatus", self._get_model_status, service=MODEL_STATUS_SERVICE)},
            ),
        )

    async def _predict(self, request: Message, context: Context) -> Message:
        spec = _parse_spec(request.model_spec)
        outputs = tensors.check_outputs(request.output_filter)
        deadline, caller = self._calls.deadline(context), caller_of_context(context)

        def parse(description: ModelDescription) -> Question:
            return Question(tensors.parse_faces(request, description.input, self._limits), deadline, caller=caller)

        def write(found: Classification) -> Message:
            response = message_class("tensorflow.serving.PredictResponse")()
            _write_spec(response.model_spec, found.servable)
            for name in outputs:
                response.outputs[name].CopyFrom(tensors.format_output(name, found))
            return response

        return await self._tensors.answer(spec, parse, write, tensors.listed_count(request))

    async def _get_model_metadata(self, request: Message, context: Context) -> Message:
        del context
        if list(request.metadata_field) != ["signature_def"]:
            raise InvalidRequestError(
                "OPTION_OUT_OF_RANGE",
                "metadata_field: ask for 'signature_def', and for nothing else.",
                field="metadata_field",
            )
        servable, description = self._tensors.describe(_parse_spec(request.model_spec))
        response = message_class("tensorflow.serving.GetModelMetadataResponse")()
        _write_spec(response.model_spec, servable)
        held = response.metadata["signature_def"]
        held.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        held.value = _signatures(description).SerializeToString()
        return response

    async def _get_model_status(self, request: Message, context: Context) -> Message:
        del context
        spec = _parse_spec(request.model_spec)
        model = self._model(spec.name)
        version_wanted = model.version_behind(spec)
        versions = [each for each in model.versions if version_wanted in {None, each.id.version}]
        if not versions:
            raise VersionNotFoundError(model.name, version_wanted or 0)
        response = message_class("tensorflow.serving.GetModelStatusResponse")()
        for version in versions:
            status = response.model_version_status.add(
                version=version.id.version, state=_STATES[version.state], status={}
            )
            if version.failure is not None:
                status.status.error_code = code_number(version.failure)
                status.status.error_message = version.failure.message
        return response


def _parse_spec(spec: Message) -> ModelSpec:
    if spec.signature_name not in {"", _SIGNATURE}:
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            f"model_spec.signature_name: there is no {spec.signature_name[:40]!r}; use {_SIGNATURE!r}.",
            field="model_spec.signature_name",
        )
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        alias = parse_alias(spec.version_label, "model_spec.version_label")
        return replace(faces.parse_spec(spec.name, ""), alias=alias)
    # 0, unlike no version, is one that cannot be.
    return faces.parse_spec(spec.name, "" if choice is None else str(spec.version.value))


def _write_spec(message: Message, servable: ServableId) -> None:
    message.name = servable.name
    message.version.value = servable.version
    message.signature_name = _SIGNATURE


def _signatures(description: ModelDescription) -> Message:
    signatures = message_class("tensorflow.serving.SignatureDefMap")()
    signature = signatures.signature_def[_SIGNATURE]
    signature.method_name = _PREDICT
    side = description.input
    _declare(signature.inputs[side.name], side.name, tensors.DT_UINT8, (-1, side.height, side.width, 1))
    scores = (-1, len(description.labels))
    _declare(signature.outputs[faces.PROBABILITIES], faces.PROBABILITIES, tensors.DT_FLOAT, scores)
    _declare(signature.outputs[faces.LABELS], faces.LABELS, tensors.DT_STRING, (-1,))
    return signatures


def _declare(info: Message, name: str, dtype: int, shape: Sequence[int]) -> None:
    info.name, info.dtype = f"{name}:0", dtype
    for size in shape:
        info.tensor_shape.dim.add(size=size)
