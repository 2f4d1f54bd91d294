from ferserve.v1 import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CanaryMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANARY_MODE_UNSPECIFIED: _ClassVar[CanaryMode]
    CANARY_MODE_SPLIT: _ClassVar[CanaryMode]
    CANARY_MODE_SHADOW: _ClassVar[CanaryMode]

class CanaryResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANARY_RESULT_UNSPECIFIED: _ClassVar[CanaryResult]
    CANARY_RESULT_WAIT: _ClassVar[CanaryResult]
    CANARY_RESULT_PROMOTE: _ClassVar[CanaryResult]
    CANARY_RESULT_ROLL_BACK: _ClassVar[CanaryResult]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FLOAT32: _ClassVar[Precision]
    PRECISION_BFLOAT16: _ClassVar[Precision]
    PRECISION_INT8: _ClassVar[Precision]

class ServableState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVABLE_STATE_UNSPECIFIED: _ClassVar[ServableState]
    SERVABLE_STATE_LOADING: _ClassVar[ServableState]
    SERVABLE_STATE_READY: _ClassVar[ServableState]
    SERVABLE_STATE_DRAINING: _ClassVar[ServableState]
    SERVABLE_STATE_UNLOADED: _ClassVar[ServableState]
    SERVABLE_STATE_FAILED: _ClassVar[ServableState]
    SERVABLE_STATE_WAITING: _ClassVar[ServableState]
CANARY_MODE_UNSPECIFIED: CanaryMode
CANARY_MODE_SPLIT: CanaryMode
CANARY_MODE_SHADOW: CanaryMode
CANARY_RESULT_UNSPECIFIED: CanaryResult
CANARY_RESULT_WAIT: CanaryResult
CANARY_RESULT_PROMOTE: CanaryResult
CANARY_RESULT_ROLL_BACK: CanaryResult
PRECISION_UNSPECIFIED: Precision
PRECISION_FLOAT32: Precision
PRECISION_BFLOAT16: Precision
PRECISION_INT8: Precision
SERVABLE_STATE_UNSPECIFIED: ServableState
SERVABLE_STATE_LOADING: ServableState
SERVABLE_STATE_READY: ServableState
SERVABLE_STATE_DRAINING: ServableState
SERVABLE_STATE_UNLOADED: ServableState
SERVABLE_STATE_FAILED: ServableState
SERVABLE_STATE_WAITING: ServableState

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class LoadVersionRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class LoadVersionResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class UnloadVersionRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class UnloadVersionResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class SetAliasRequest(_message.Message):
    __slots__ = ("name", "alias", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    alias: str
    version: int
    def __init__(self, name: _Optional[str] = ..., alias: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class SetAliasResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class DeleteAliasRequest(_message.Message):
    __slots__ = ("name", "alias")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    alias: str
    def __init__(self, name: _Optional[str] = ..., alias: _Optional[str] = ...) -> None: ...

class DeleteAliasResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class PromoteVersionRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class PromoteVersionResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class RollBackResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "default", "versions", "version_policy", "aliases", "serving_version", "canary", "skipped_folders")
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    VERSION_POLICY_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    SERVING_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FOLDERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    default: bool
    versions: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    version_policy: str
    aliases: _containers.ScalarMap[str, int]
    serving_version: int
    canary: Canary
    skipped_folders: _containers.RepeatedCompositeFieldContainer[SkippedFolder]
    def __init__(self, name: _Optional[str] = ..., default: bool = ..., versions: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ..., version_policy: _Optional[str] = ..., aliases: _Optional[_Mapping[str, int]] = ..., serving_version: _Optional[int] = ..., canary: _Optional[_Union[Canary, _Mapping]] = ..., skipped_folders: _Optional[_Iterable[_Union[SkippedFolder, _Mapping]]] = ...) -> None: ...

class SkippedFolder(_message.Message):
    __slots__ = ("folder", "failure")
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    folder: str
    failure: _failure_pb2.Failure
    def __init__(self, folder: _Optional[str] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class Canary(_message.Message):
    __slots__ = ("version", "stable_version", "mode", "share", "elapsed_seconds", "figures", "stable_figures", "shadow", "verdict")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIGURES_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    version: int
    stable_version: int
    mode: CanaryMode
    share: float
    elapsed_seconds: float
    figures: VersionStatistics
    stable_figures: VersionStatistics
    shadow: ShadowStatistics
    verdict: CanaryVerdict
    def __init__(self, version: _Optional[int] = ..., stable_version: _Optional[int] = ..., mode: _Optional[_Union[CanaryMode, str]] = ..., share: _Optional[float] = ..., elapsed_seconds: _Optional[float] = ..., figures: _Optional[_Union[VersionStatistics, _Mapping]] = ..., stable_figures: _Optional[_Union[VersionStatistics, _Mapping]] = ..., shadow: _Optional[_Union[ShadowStatistics, _Mapping]] = ..., verdict: _Optional[_Union[CanaryVerdict, _Mapping]] = ...) -> None: ...

class VersionStatistics(_message.Message):
    __slots__ = ("request_count", "failed_count", "mean_confidence", "latencies")
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_FIELD_NUMBER: _ClassVar[int]
    request_count: int
    failed_count: int
    mean_confidence: float
    latencies: _containers.RepeatedCompositeFieldContainer[LatencyStatistics]
    def __init__(self, request_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., mean_confidence: _Optional[float] = ..., latencies: _Optional[_Iterable[_Union[LatencyStatistics, _Mapping]]] = ...) -> None: ...

class LatencyStatistics(_message.Message):
    __slots__ = ("bucket_size", "batch_count", "latency_ms")
    BUCKET_SIZE_FIELD_NUMBER: _ClassVar[int]
    BATCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    bucket_size: int
    batch_count: int
    latency_ms: float
    def __init__(self, bucket_size: _Optional[int] = ..., batch_count: _Optional[int] = ..., latency_ms: _Optional[float] = ...) -> None: ...

class ShadowStatistics(_message.Message):
    __slots__ = ("face_count", "agreed_count", "largest_difference", "mean_difference", "dropped_count")
    FACE_COUNT_FIELD_NUMBER: _ClassVar[int]
    AGREED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LARGEST_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    face_count: int
    agreed_count: int
    largest_difference: float
    mean_difference: float
    dropped_count: int
    def __init__(self, face_count: _Optional[int] = ..., agreed_count: _Optional[int] = ..., largest_difference: _Optional[float] = ..., mean_difference: _Optional[float] = ..., dropped_count: _Optional[int] = ...) -> None: ...

class CanaryVerdict(_message.Message):
    __slots__ = ("result", "reason", "text")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    result: CanaryResult
    reason: str
    text: str
    def __init__(self, result: _Optional[_Union[CanaryResult, str]] = ..., reason: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("version", "state", "failure", "labels", "input_height", "input_width", "mac_count", "parameter_count", "metrics", "bucket_sizes", "aliases", "validation", "precision", "bfloat16_speedup", "latency_ms", "uncertain_threshold", "not_a_face_threshold")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class LatencyMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    MAC_COUNT_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_COUNT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    BUCKET_SIZES_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    BFLOAT16_SPEEDUP_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    NOT_A_FACE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    version: int
    state: ServableState
    failure: _failure_pb2.Failure
    labels: _containers.RepeatedScalarFieldContainer[str]
    input_height: int
    input_width: int
    mac_count: int
    parameter_count: int
    metrics: _containers.ScalarMap[str, float]
    bucket_sizes: _containers.RepeatedScalarFieldContainer[int]
    aliases: _containers.RepeatedScalarFieldContainer[str]
    validation: ValidationFigures
    precision: Precision
    bfloat16_speedup: float
    latency_ms: _containers.ScalarMap[int, float]
    uncertain_threshold: float
    not_a_face_threshold: float
    def __init__(self, version: _Optional[int] = ..., state: _Optional[_Union[ServableState, str]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., mac_count: _Optional[int] = ..., parameter_count: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., bucket_sizes: _Optional[_Iterable[int]] = ..., aliases: _Optional[_Iterable[str]] = ..., validation: _Optional[_Union[ValidationFigures, _Mapping]] = ..., precision: _Optional[_Union[Precision, str]] = ..., bfloat16_speedup: _Optional[float] = ..., latency_ms: _Optional[_Mapping[int, float]] = ..., uncertain_threshold: _Optional[float] = ..., not_a_face_threshold: _Optional[float] = ...) -> None: ...

class ValidationFigures(_message.Message):
    __slots__ = ("golden_difference", "comparison")
    GOLDEN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    golden_difference: float
    comparison: ValidationComparison
    def __init__(self, golden_difference: _Optional[float] = ..., comparison: _Optional[_Union[ValidationComparison, _Mapping]] = ...) -> None: ...

class ValidationComparison(_message.Message):
    __slots__ = ("version", "agreement", "largest_difference", "latencies")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    LARGEST_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_FIELD_NUMBER: _ClassVar[int]
    version: int
    agreement: float
    largest_difference: float
    latencies: _containers.RepeatedCompositeFieldContainer[BucketLatency]
    def __init__(self, version: _Optional[int] = ..., agreement: _Optional[float] = ..., largest_difference: _Optional[float] = ..., latencies: _Optional[_Iterable[_Union[BucketLatency, _Mapping]]] = ...) -> None: ...

class BucketLatency(_message.Message):
    __slots__ = ("bucket_size", "latency_ms", "active_latency_ms")
    BUCKET_SIZE_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    bucket_size: int
    latency_ms: float
    active_latency_ms: float
    def __init__(self, bucket_size: _Optional[int] = ..., latency_ms: _Optional[float] = ..., active_latency_ms: _Optional[float] = ...) -> None: ...
