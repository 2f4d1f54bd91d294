"""Combines the groups of settings and checks settings that depend on each other.

Each setting is declared once, as a field of its group. Its name is that of its flag, its FERSERVE_* variable and
its key in the TOML table of its group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

from ferserve_server.config.group import Group
from ferserve_server.config.inference import BatchingSettings, EngineSettings
from ferserve_server.config.models import CanarySettings, ModelsSettings
from ferserve_server.config.network import ControlSettings, HttpSettings, LogSettings, ServerSettings, TlsSettings
from ferserve_server.config.requests import DetectionSettings, LimitSettings, StreamSettings
from ferserve_server.config.upstream import UpstreamSettings
from ferserve_server.domain.names import CANARY, STABLE
from ferserve_server.models.aliases import parse_aliases

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo


GroupT = TypeVar("GroupT", bound=Group)


def _defaults(kind: type[GroupT]) -> GroupT:
    return kind.model_validate({})


class Settings(BaseModel):
    """Holds all settings of the server, by group. Immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    server: ServerSettings = _defaults(ServerSettings)
    http: HttpSettings = _defaults(HttpSettings)
    tls: TlsSettings = _defaults(TlsSettings)
    control: ControlSettings = _defaults(ControlSettings)
    log: LogSettings = _defaults(LogSettings)
    models: ModelsSettings = _defaults(ModelsSettings)
    canary: CanarySettings = _defaults(CanarySettings)
    engine: EngineSettings = _defaults(EngineSettings)
    batching: BatchingSettings = _defaults(BatchingSettings)
    limits: LimitSettings = _defaults(LimitSettings)
    detection: DetectionSettings = _defaults(DetectionSettings)
    streams: StreamSettings = _defaults(StreamSettings)
    upstream: UpstreamSettings = _defaults(UpstreamSettings)

    @classmethod
    def of(cls, **values: object) -> Self:
        """Builds settings from values by flat name, such as `listen="127.0.0.1:0"`; the rest have their defaults.

        Raises:
            pydantic.ValidationError: A value is invalid, or two do not fit together.
            KeyError: There is no such setting.
        """
        return cls.model_validate(_by_group(values))

    def replace(self, **values: object) -> Self:
        """Returns a copy with other values, by flat name. They are not validated.

        Raises:
            KeyError: There is no such setting.
        """
        changed = {group: getattr(self, group).model_copy(update=own) for group, own in _by_group(values).items()}
        return self.model_copy(update=changed)

    @model_validator(mode="after")
    def _check_queues(self) -> Self:
        per_request, batching = self.limits.max_faces_per_request, self.batching
        if per_request > batching.max_queue_faces:
            raise ValueError("max_faces_per_request must not be above max_queue_faces: such a request never fits")
        if 0 < batching.max_queue_faces_per_caller < per_request:
            raise ValueError(
                "max_faces_per_request must not be above max_queue_faces_per_caller: such a request never fits"
            )
        return self

    @model_validator(mode="after")
    def _check_aliases(self) -> Self:
        policies = self.canary.policies
        for model, aliases in parse_aliases(self.models.alias).items():
            for alias in {STABLE, CANARY} & aliases.keys() if policies.of(model) else ():
                raise ValueError(
                    f"alias {model}:{alias} is moved by canaries: take it out, or set canary_share to 0"
                )
        return self

    @model_validator(mode="after")
    def _check_control(self) -> Self:
        control, tls = self.control, self.tls
        if control.control_client_ca_file and not tls.tls_cert_file:
            raise ValueError("control_client_ca_file needs tls_cert_file and tls_key_file")
        if control.control_client_ca_file and (control.control_on_main or control.control_listen == "off"):
            raise ValueError("control_client_ca_file is for control_listen: set that, and not control_on_main")
        if control.control_names and not (tls.tls_client_ca_file or control.control_client_ca_file):
            raise ValueError(
                "control_names are names of client certificates: they need tls_client_ca_file or "
                "control_client_ca_file"
            )
        return self

    @model_validator(mode="after")
    def _check_processes(self) -> Self:
        server = self.server
        if server.processes > 1 and server.grpc_server == "grpcio" and server.listen.startswith("unix:"):
            raise ValueError(
                "a unix: address in listen is for one process with grpc_server grpcio: "
                "set grpc_server to native, processes to 1, or a HOST:PORT"
            )
        if server.processes > 1 and self.upstream.upstream:
            raise ValueError("processes must be 1 with upstream: start several such servers instead")
        return self

    @model_validator(mode="after")
    def _check_upstream(self) -> Self:
        if not self.upstream.upstream:
            return self
        given = [
            name
            for name, (group, field) in SETTINGS.items()
            if (name in _WITHOUT_EFFECT_IN_FRONT_OF_A_TIER or group == "canary")
            and getattr(getattr(self, group), name) != field.default
        ]
        if given:
            raise ValueError(
                f"with upstream no models run here: give {', '.join(given)} to the servers of the tier instead"
            )
        return self


_WITHOUT_EFFECT_IN_FRONT_OF_A_TIER: Final = (
    "control_listen",
    "control_on_main",
    "control_token_file",
    "control_names",
    "control_client_ca_file",
    "default_model",
    "versions_per_model",
    "version_policy",
    "alias",
    "lifecycle_state_file",
    "model_key",
    "backend",
    "executor_count",
    "precision",
    "gpu_memory_limit_mib",
    "gpu_xla",
    "bucket_sizes",
    "tune",
    "tune_cache",
    "target_p99_ms",
)
"""Settings without effect where no models run, in addition to those of canaries. `model_repo` is not among them,
because the container image sets it."""


def _all_settings() -> dict[str, tuple[str, FieldInfo]]:
    found: dict[str, tuple[str, FieldInfo]] = {}
    for group, entry in Settings.model_fields.items():
        kind: type[Group] = entry.annotation  # type: ignore[assignment]  # each field of Settings is a group
        for name, field in kind.model_fields.items():
            if name in found:
                raise TypeError(f"the setting {name} is in two groups: {found[name][0]} and {group}")
            found[name] = group, field
    return found


SETTINGS: Final = _all_settings()
"""Group and declaration of each setting, by name, in the order of `--help`."""


def _by_group(values: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    grouped: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        grouped.setdefault(SETTINGS[name][0], {})[name] = value
    return grouped
