"""What an engine process is told when it starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine process is told when it starts; the first few implement `backends.loading.LoaderOptions`.

    Attributes:
        model_repo: See `LoaderOptions`, as for the next five.
        backend: As above.
        executor_count: As above.
        intra_op_threads: As above.
        gpu_memory_limit_mib: As above.
        gpu_xla: As above.
        log_level: See `observability.logging.set_up_logging`.
        log_format: As above; json or console.
        log_framed: Whether the server reads its stderr, and takes framed records.
        gives_way: Whether it starts beside live traffic, and leaves the processor to that.
        loader_module: Module with the functions of `backends.loading`.
    """

    model_repo: Path
    backend: str = "tensorflow"
    executor_count: int = 0
    intra_op_threads: int = 1
    gpu_memory_limit_mib: int = 0
    gpu_xla: bool = False
    log_level: str = "info"
    log_format: str = "auto"
    log_framed: bool = False
    gives_way: bool = False
    loader_module: str = "ferserve_server.backends.loading"

    def to_json(self) -> str:
        """Writes them down, for a command line."""
        return json.dumps(asdict(self) | {"model_repo": str(self.model_repo)})

    @classmethod
    def from_json(cls, text: str) -> EngineOptions:
        """Reads what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**fields | {"model_repo": Path(fields["model_repo"])})
