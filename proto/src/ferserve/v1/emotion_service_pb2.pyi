from ferserve.v1 import face_pb2 as _face_pb2
from ferserve.v1 import failure_pb2 as _failure_pb2
from ferserve.v1 import servable_pb2 as _servable_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrackEventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRACK_EVENT_TYPE_UNSPECIFIED: _ClassVar[TrackEventType]
    TRACK_EVENT_TYPE_APPEARED: _ClassVar[TrackEventType]
    TRACK_EVENT_TYPE_CHANGED: _ClassVar[TrackEventType]
    TRACK_EVENT_TYPE_LEFT: _ClassVar[TrackEventType]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class OverloadPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERLOAD_POLICY_UNSPECIFIED: _ClassVar[OverloadPolicy]
    OVERLOAD_POLICY_LATEST: _ClassVar[OverloadPolicy]
    OVERLOAD_POLICY_EVERY_FRAME: _ClassVar[OverloadPolicy]
    OVERLOAD_POLICY_MAX_AGE: _ClassVar[OverloadPolicy]
TRACK_EVENT_TYPE_UNSPECIFIED: TrackEventType
TRACK_EVENT_TYPE_APPEARED: TrackEventType
TRACK_EVENT_TYPE_CHANGED: TrackEventType
TRACK_EVENT_TYPE_LEFT: TrackEventType
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
OVERLOAD_POLICY_UNSPECIFIED: OverloadPolicy
OVERLOAD_POLICY_LATEST: OverloadPolicy
OVERLOAD_POLICY_EVERY_FRAME: OverloadPolicy
OVERLOAD_POLICY_MAX_AGE: OverloadPolicy

class ClassifyFacesRequest(_message.Message):
    __slots__ = ("model", "priority", "packed", "encoded")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    model: _servable_pb2.ModelSpec
    priority: Priority
    packed: _face_pb2.PackedFaces
    encoded: _face_pb2.EncodedFaces
    def __init__(self, model: _Optional[_Union[_servable_pb2.ModelSpec, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., packed: _Optional[_Union[_face_pb2.PackedFaces, _Mapping]] = ..., encoded: _Optional[_Union[_face_pb2.EncodedFaces, _Mapping]] = ...) -> None: ...

class ClassifyFacesResponse(_message.Message):
    __slots__ = ("results", "labels", "servable", "timing", "not_a_face_scores")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SERVABLE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    NOT_A_FACE_SCORES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[FaceResult]
    labels: _containers.RepeatedScalarFieldContainer[str]
    servable: _servable_pb2.ServableId
    timing: _face_pb2.Timing
    not_a_face_scores: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, results: _Optional[_Iterable[_Union[FaceResult, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ..., servable: _Optional[_Union[_servable_pb2.ServableId, _Mapping]] = ..., timing: _Optional[_Union[_face_pb2.Timing, _Mapping]] = ..., not_a_face_scores: _Optional[_Iterable[float]] = ...) -> None: ...

class FaceResult(_message.Message):
    __slots__ = ("prediction", "failure")
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    prediction: _face_pb2.Prediction
    failure: _failure_pb2.Failure
    def __init__(self, prediction: _Optional[_Union[_face_pb2.Prediction, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class AnalyzeImagesRequest(_message.Message):
    __slots__ = ("model", "priority", "images", "detection")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    model: _servable_pb2.ModelSpec
    priority: Priority
    images: _containers.RepeatedScalarFieldContainer[bytes]
    detection: _face_pb2.DetectionOptions
    def __init__(self, model: _Optional[_Union[_servable_pb2.ModelSpec, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., images: _Optional[_Iterable[bytes]] = ..., detection: _Optional[_Union[_face_pb2.DetectionOptions, _Mapping]] = ...) -> None: ...

class AnalyzeImagesResponse(_message.Message):
    __slots__ = ("results", "labels", "servable", "timing")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SERVABLE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ImageResult]
    labels: _containers.RepeatedScalarFieldContainer[str]
    servable: _servable_pb2.ServableId
    timing: _face_pb2.Timing
    def __init__(self, results: _Optional[_Iterable[_Union[ImageResult, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ..., servable: _Optional[_Union[_servable_pb2.ServableId, _Mapping]] = ..., timing: _Optional[_Union[_face_pb2.Timing, _Mapping]] = ...) -> None: ...

class ImageResult(_message.Message):
    __slots__ = ("analysis", "failure")
    ANALYSIS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    analysis: ImageAnalysis
    failure: _failure_pb2.Failure
    def __init__(self, analysis: _Optional[_Union[ImageAnalysis, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class ImageAnalysis(_message.Message):
    __slots__ = ("width", "height", "faces", "omitted_face_count")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FACE_COUNT_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    faces: _containers.RepeatedCompositeFieldContainer[_face_pb2.DetectedFace]
    omitted_face_count: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., faces: _Optional[_Iterable[_Union[_face_pb2.DetectedFace, _Mapping]]] = ..., omitted_face_count: _Optional[int] = ...) -> None: ...

class StreamFramesRequest(_message.Message):
    __slots__ = ("config", "frame")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    config: FrameStreamConfig
    frame: Frame
    def __init__(self, config: _Optional[_Union[FrameStreamConfig, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ...) -> None: ...

class FrameStreamConfig(_message.Message):
    __slots__ = ("model", "overload_policy", "detection", "max_age_ms", "tracking", "events_only", "resumed_after_sequence_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OVERLOAD_POLICY_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    TRACKING_FIELD_NUMBER: _ClassVar[int]
    EVENTS_ONLY_FIELD_NUMBER: _ClassVar[int]
    RESUMED_AFTER_SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
    model: _servable_pb2.ModelSpec
    overload_policy: OverloadPolicy
    detection: _face_pb2.DetectionOptions
    max_age_ms: int
    tracking: TrackingOptions
    events_only: bool
    resumed_after_sequence_id: int
    def __init__(self, model: _Optional[_Union[_servable_pb2.ModelSpec, _Mapping]] = ..., overload_policy: _Optional[_Union[OverloadPolicy, str]] = ..., detection: _Optional[_Union[_face_pb2.DetectionOptions, _Mapping]] = ..., max_age_ms: _Optional[int] = ..., tracking: _Optional[_Union[TrackingOptions, _Mapping]] = ..., events_only: bool = ..., resumed_after_sequence_id: _Optional[int] = ...) -> None: ...

class TrackingOptions(_message.Message):
    __slots__ = ("enabled", "smoothing_half_life_s", "max_lost_s", "full_search_interval_s")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    SMOOTHING_HALF_LIFE_S_FIELD_NUMBER: _ClassVar[int]
    MAX_LOST_S_FIELD_NUMBER: _ClassVar[int]
    FULL_SEARCH_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    smoothing_half_life_s: float
    max_lost_s: float
    full_search_interval_s: float
    def __init__(self, enabled: bool = ..., smoothing_half_life_s: _Optional[float] = ..., max_lost_s: _Optional[float] = ..., full_search_interval_s: _Optional[float] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("sequence_id", "image", "time_s")
    SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    sequence_id: int
    image: bytes
    time_s: float
    def __init__(self, sequence_id: _Optional[int] = ..., image: _Optional[bytes] = ..., time_s: _Optional[float] = ...) -> None: ...

class StreamFramesResponse(_message.Message):
    __slots__ = ("sequence_id", "analysis", "dropped", "failure", "unchanged", "labels", "servable", "timing", "time_s", "age_ms", "events", "tracks_restarted")
    SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
    ANALYSIS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SERVABLE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    TRACKS_RESTARTED_FIELD_NUMBER: _ClassVar[int]
    sequence_id: int
    analysis: ImageAnalysis
    dropped: FrameDropped
    failure: _failure_pb2.Failure
    unchanged: FrameUnchanged
    labels: _containers.RepeatedScalarFieldContainer[str]
    servable: _servable_pb2.ServableId
    timing: _face_pb2.Timing
    time_s: float
    age_ms: float
    events: _containers.RepeatedCompositeFieldContainer[TrackEvent]
    tracks_restarted: bool
    def __init__(self, sequence_id: _Optional[int] = ..., analysis: _Optional[_Union[ImageAnalysis, _Mapping]] = ..., dropped: _Optional[_Union[FrameDropped, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., unchanged: _Optional[_Union[FrameUnchanged, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., servable: _Optional[_Union[_servable_pb2.ServableId, _Mapping]] = ..., timing: _Optional[_Union[_face_pb2.Timing, _Mapping]] = ..., time_s: _Optional[float] = ..., age_ms: _Optional[float] = ..., events: _Optional[_Iterable[_Union[TrackEvent, _Mapping]]] = ..., tracks_restarted: bool = ...) -> None: ...

class FrameUnchanged(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TrackEvent(_message.Message):
    __slots__ = ("event", "track_id", "time_s", "duration_s", "prediction")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    event: TrackEventType
    track_id: int
    time_s: float
    duration_s: float
    prediction: _face_pb2.Prediction
    def __init__(self, event: _Optional[_Union[TrackEventType, str]] = ..., track_id: _Optional[int] = ..., time_s: _Optional[float] = ..., duration_s: _Optional[float] = ..., prediction: _Optional[_Union[_face_pb2.Prediction, _Mapping]] = ...) -> None: ...

class FrameDropped(_message.Message):
    __slots__ = ("newer_sequence_id",)
    NEWER_SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
    newer_sequence_id: int
    def __init__(self, newer_sequence_id: _Optional[int] = ...) -> None: ...

class ClassifyStreamRequest(_message.Message):
    __slots__ = ("sequence_id", "model", "priority", "faces")
    SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    sequence_id: int
    model: _servable_pb2.ModelSpec
    priority: Priority
    faces: _face_pb2.PackedFaces
    def __init__(self, sequence_id: _Optional[int] = ..., model: _Optional[_Union[_servable_pb2.ModelSpec, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., faces: _Optional[_Union[_face_pb2.PackedFaces, _Mapping]] = ...) -> None: ...

class ClassifyStreamResponse(_message.Message):
    __slots__ = ("sequence_id", "predictions", "failure", "labels", "servable")
    SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SERVABLE_FIELD_NUMBER: _ClassVar[int]
    sequence_id: int
    predictions: _containers.RepeatedCompositeFieldContainer[_face_pb2.Prediction]
    failure: _failure_pb2.Failure
    labels: _containers.RepeatedScalarFieldContainer[str]
    servable: _servable_pb2.ServableId
    def __init__(self, sequence_id: _Optional[int] = ..., predictions: _Optional[_Iterable[_Union[_face_pb2.Prediction, _Mapping]]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., servable: _Optional[_Union[_servable_pb2.ServableId, _Mapping]] = ...) -> None: ...
