"""Writes the files that run Triton from NVIDIA's wheel: its server and Python backend, without PyTriton's layer.

PyTriton itself passes every request through its own process too, which takes about half of the throughput.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from peers.environments import python_of
from peers.wire_forms import MODEL

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = f"""
name: "{MODEL}"
backend: "python"
max_batch_size: 128
input [ {{ name: "faces", data_type: TYPE_UINT8, dims: [ 48, 48, 1 ] }} ]
output [ {{ name: "probabilities", data_type: TYPE_FP32, dims: [ 7 ] }} ]
instance_group [ {{ count: 2, kind: KIND_CPU }} ]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
"""


def write_triton_files(
    port: int, work: Path, env: dict[str, str], model: Path
) -> tuple[list[str], dict[str, str]]:
    """Writes a model folder and a folder of backends, and returns the command and its environment.

    Args:
        port: Of gRPC.
        work: An empty folder.
        env: Variables of the peer.
        model: The module of the model, whose folder is among the paths of `env`.
    """
    version = work / "models" / MODEL / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    # The stub takes no PYTHONPATH.
    paths = env["PYTHONPATH"].split(os.pathsep)
    lines = ["import sys", f"sys.path[:0] = {paths!r}", f"from {model.stem} import TritonPythonModel"]
    (version / "model.py").write_text("\n".join([*lines, ""]))
    packages = python_of("triton").parent.parent / "lib" / "python3.11" / "site-packages"
    triton = packages / "pytriton" / "tritonserver"
    backend = work / "backends" / "python"
    backend.mkdir(parents=True)
    for file in (triton / "backends" / "python").iterdir():
        (backend / file.name).symlink_to(file)
    (backend / "triton_python_backend_stub").symlink_to(
        triton / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    )
    command = [str(triton / "bin" / "tritonserver"), "--model-repository", str(work / "models")]
    command += ["--backend-directory", str(work / "backends"), "--grpc-address", "127.0.0.1"]
    command += ["--grpc-port", str(port), "--allow-http=false", "--allow-metrics=false"]
    return command, env | {
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PYTHONPATH": str(packages),
    }
