from ferserve.v1 import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Detector(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DETECTOR_UNSPECIFIED: _ClassVar[Detector]
    DETECTOR_HAAR: _ClassVar[Detector]
    DETECTOR_YUNET: _ClassVar[Detector]
    DETECTOR_HAAR_ALT2: _ClassVar[Detector]

class NotAFacePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOT_A_FACE_POLICY_UNSPECIFIED: _ClassVar[NotAFacePolicy]
    NOT_A_FACE_POLICY_DROP: _ClassVar[NotAFacePolicy]
    NOT_A_FACE_POLICY_MARK: _ClassVar[NotAFacePolicy]
    NOT_A_FACE_POLICY_IGNORE: _ClassVar[NotAFacePolicy]

class FaceSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FACE_SOURCE_UNSPECIFIED: _ClassVar[FaceSource]
    FACE_SOURCE_DETECT: _ClassVar[FaceSource]
    FACE_SOURCE_WHOLE_IMAGE: _ClassVar[FaceSource]
DETECTOR_UNSPECIFIED: Detector
DETECTOR_HAAR: Detector
DETECTOR_YUNET: Detector
DETECTOR_HAAR_ALT2: Detector
NOT_A_FACE_POLICY_UNSPECIFIED: NotAFacePolicy
NOT_A_FACE_POLICY_DROP: NotAFacePolicy
NOT_A_FACE_POLICY_MARK: NotAFacePolicy
NOT_A_FACE_POLICY_IGNORE: NotAFacePolicy
FACE_SOURCE_UNSPECIFIED: FaceSource
FACE_SOURCE_DETECT: FaceSource
FACE_SOURCE_WHOLE_IMAGE: FaceSource

class PackedFaces(_message.Message):
    __slots__ = ("pixels", "face_count", "height", "width")
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    FACE_COUNT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    pixels: bytes
    face_count: int
    height: int
    width: int
    def __init__(self, pixels: _Optional[bytes] = ..., face_count: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class EncodedFaces(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, images: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("label_index", "scores", "uncertain")
    LABEL_INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
    label_index: int
    scores: _containers.RepeatedScalarFieldContainer[float]
    uncertain: bool
    def __init__(self, label_index: _Optional[int] = ..., scores: _Optional[_Iterable[float]] = ..., uncertain: bool = ...) -> None: ...

class DetectedFace(_message.Message):
    __slots__ = ("box", "prediction", "failure", "score", "landmarks", "not_a_face", "raw", "track_id")
    BOX_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LANDMARKS_FIELD_NUMBER: _ClassVar[int]
    NOT_A_FACE_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    box: BoundingBox
    prediction: Prediction
    failure: _failure_pb2.Failure
    score: float
    landmarks: Landmarks
    not_a_face: bool
    raw: Prediction
    track_id: int
    def __init__(self, box: _Optional[_Union[BoundingBox, _Mapping]] = ..., prediction: _Optional[_Union[Prediction, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., score: _Optional[float] = ..., landmarks: _Optional[_Union[Landmarks, _Mapping]] = ..., not_a_face: bool = ..., raw: _Optional[_Union[Prediction, _Mapping]] = ..., track_id: _Optional[int] = ...) -> None: ...

class Landmarks(_message.Message):
    __slots__ = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    LEFT_EYE_FIELD_NUMBER: _ClassVar[int]
    RIGHT_EYE_FIELD_NUMBER: _ClassVar[int]
    NOSE_FIELD_NUMBER: _ClassVar[int]
    LEFT_MOUTH_FIELD_NUMBER: _ClassVar[int]
    RIGHT_MOUTH_FIELD_NUMBER: _ClassVar[int]
    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point
    def __init__(self, left_eye: _Optional[_Union[Point, _Mapping]] = ..., right_eye: _Optional[_Union[Point, _Mapping]] = ..., nose: _Optional[_Union[Point, _Mapping]] = ..., left_mouth: _Optional[_Union[Point, _Mapping]] = ..., right_mouth: _Optional[_Union[Point, _Mapping]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("x", "y")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...

class BoundingBox(_message.Message):
    __slots__ = ("left", "top", "width", "height")
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    left: int
    top: int
    width: int
    height: int
    def __init__(self, left: _Optional[int] = ..., top: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class DetectionOptions(_message.Message):
    __slots__ = ("face_source", "detection_side_pixels", "min_face_pixels", "detector", "score_threshold", "max_faces", "region", "tiles", "not_a_face_policy", "haar")
    FACE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    DETECTION_SIDE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MIN_FACE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_FACES_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    NOT_A_FACE_POLICY_FIELD_NUMBER: _ClassVar[int]
    HAAR_FIELD_NUMBER: _ClassVar[int]
    face_source: FaceSource
    detection_side_pixels: int
    min_face_pixels: int
    detector: Detector
    score_threshold: float
    max_faces: int
    region: BoundingBox
    tiles: bool
    not_a_face_policy: NotAFacePolicy
    haar: HaarOptions
    def __init__(self, face_source: _Optional[_Union[FaceSource, str]] = ..., detection_side_pixels: _Optional[int] = ..., min_face_pixels: _Optional[int] = ..., detector: _Optional[_Union[Detector, str]] = ..., score_threshold: _Optional[float] = ..., max_faces: _Optional[int] = ..., region: _Optional[_Union[BoundingBox, _Mapping]] = ..., tiles: bool = ..., not_a_face_policy: _Optional[_Union[NotAFacePolicy, str]] = ..., haar: _Optional[_Union[HaarOptions, _Mapping]] = ...) -> None: ...

class HaarOptions(_message.Message):
    __slots__ = ("scale_factor", "min_neighbors")
    SCALE_FACTOR_FIELD_NUMBER: _ClassVar[int]
    MIN_NEIGHBORS_FIELD_NUMBER: _ClassVar[int]
    scale_factor: float
    min_neighbors: int
    def __init__(self, scale_factor: _Optional[float] = ..., min_neighbors: _Optional[int] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("total_ms", "decode_ms", "detect_ms", "queue_ms", "inference_ms")
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    DETECT_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_MS_FIELD_NUMBER: _ClassVar[int]
    total_ms: float
    decode_ms: float
    detect_ms: float
    queue_ms: float
    inference_ms: float
    def __init__(self, total_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., detect_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., inference_ms: _Optional[float] = ...) -> None: ...
