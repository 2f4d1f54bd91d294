"""Defines the peers: their setup, start and protocol.

All serve the same net with the same engine in processes of their own (`served/net.py`), two of them where a peer
has worker processes, batches of up to 64 requests or 128 faces, and a queue delay of a millisecond or none. Flask
is set up as in the source project.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loads import MODEL
from peers import wire_forms
from peers.environments import DEBIAN_PYTHON, ROOT, python_of
from peers.triton_files import write_triton_files
from servers import free_port

from ferserve_server.backends.processor import multiplies_bfloat16, read_cpuinfo

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    from load.plan import Part

SERVED = Path(__file__).resolve().parent / "served"


@dataclass(frozen=True, slots=True)
class Start:
    """Describes a command, its environment and its folder."""

    command: list[str]
    env: dict[str, str]
    cwd: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """Describes a server to compare with.

    Attributes:
        name: What the table calls it.
        environment: Name of its environment and requirements; "" for ferserve itself, which is here already.
        interface: How it is spoken to, for the table.
        part: Makes the load of so many faces a call, from so many callers.
        read: The scores of an answer.
        start: What to run, given a port and an empty folder.
        interpreter: What its environment is made with.
    """

    name: str
    environment: str
    interface: str
    part: Callable[[int, int], Part]
    read: Callable[[bytes], npt.NDArray[np.float32]]
    start: Callable[[int, Path], Start]
    interpreter: str = sys.executable


def _environment(name: str) -> dict[str, str]:
    """Returns the variables of a peer: its own programs first, the net's modules to import."""
    paths = [SERVED, ROOT / "server" / "src"]
    kept = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return kept | {
        "PATH": f"{python_of(name).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(path) for path in paths),
        "FERSERVE_BENCH_MODEL": str(MODEL),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Ray gives up on its own processes after 30 s, which is short beside other work.
        "RAY_raylet_start_wait_time_s": "120",
    }


def _script(name: str, script: str, *flags: str) -> Callable[[int, Path], Start]:
    """Runs a script of `served/`; {port} in its flags is the port."""

    def start(port: int, work: Path) -> Start:
        filled = [flag.format(port=port) for flag in flags]
        return Start([str(python_of(name)), str(SERVED / script), *filled], _environment(name), work)

    return start


def _bentoml(port: int, work: Path) -> Start:
    command = [str(python_of("bentoml")), "-m", "bentoml", "serve", "bentoml_service:Classifier"]
    env = _environment("bentoml") | {"BENTOML_HOME": str(work / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    return Start([*command, "--host", "127.0.0.1", "--port", str(port)], env, SERVED)


def _mlserver(port: int, work: Path) -> Start:
    settings = {
        "host": "127.0.0.1",
        "grpc_port": port,
        "http_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": 2,
        "debug": False,
        "environments_dir": str(work / "environments"),
    }
    model = {
        "name": wire_forms.MODEL,
        "implementation": "mlserver_runtime.Classifier",
        "max_batch_size": 64,
        "max_batch_time": 0.001,
    }
    (work / "settings.json").write_text(json.dumps(settings))
    (work / "model-settings.json").write_text(json.dumps(model))
    command = [str(python_of("mlserver").with_name("mlserver")), "start", str(work)]
    return Start(command, _environment("mlserver"), work)


def _triton(port: int, work: Path) -> Start:
    command, env = write_triton_files(port, work, _environment("triton"), SERVED / "triton_model.py")
    return Start(command, env, work)


def _ferserve(asked: str, flags: tuple[str, ...], port: int, work: Path) -> Start:
    """`asked` is the flag of the address that is asked."""
    command = [sys.executable, "-m", "ferserve_server", "--model-repo", str(work / "models")]
    command += ["--default-model", wire_forms.MODEL, asked, f"127.0.0.1:{port}", "--metrics-listen", "off"]
    if asked != "--listen":
        command += ["--listen", f"127.0.0.1:{free_port()}"]
    if asked != "--http-listen":
        command += ["--http-listen", "off"]
    # What `auto` picks depends on what else runs at the start; the peers' precision does not.
    command += ["--precision", "bfloat16" if multiplies_bfloat16(read_cpuinfo()) else "float32"]
    return Start([*command, *flags], dict(os.environ), work)


def ferserve_ways(flags: tuple[str, ...] = ()) -> tuple[Peer, ...]:
    """Describes ferserve on three interfaces, two of which peers speak too, and gRPC's server."""
    return (
        Peer(
            "ferserve",
            "",
            "gRPC, ClassifyFaces",
            wire_forms.classify_faces,
            wire_forms.read_classify_faces,
            partial(_ferserve, "--listen", flags),
        ),
        Peer(
            "ferserve, --grpc-server grpcio",
            "",
            "gRPC, ClassifyFaces",
            wire_forms.classify_faces,
            wire_forms.read_classify_faces,
            partial(_ferserve, "--listen", ("--grpc-server", "grpcio", *flags)),
        ),
        Peer(
            "ferserve, Open Inference",
            "",
            "gRPC, Open Inference Protocol",
            wire_forms.open_inference,
            wire_forms.read_open_inference,
            partial(_ferserve, "--listen", flags),
        ),
        Peer(
            "ferserve, HTTP",
            "",
            "HTTP, Open Inference Protocol, binary",
            wire_forms.open_inference_http,
            wire_forms.read_open_inference_http,
            partial(_ferserve, "--http-listen", flags),
        ),
    )


PEERS: tuple[Peer, ...] = (
    Peer(
        "Triton",
        "triton",
        "gRPC, Open Inference Protocol",
        wire_forms.open_inference,
        wire_forms.read_open_inference,
        _triton,
        # Its backend's stub is built for Debian's Python 3.11.2, and does not come up with 3.11.7.
        str(DEBIAN_PYTHON),
    ),
    Peer(
        "mosec",
        "mosec",
        "HTTP, octets",
        partial(wire_forms.octets, "/inference"),
        wire_forms.read_octets,
        _script("mosec", "mosec_server.py", "--address", "127.0.0.1", "--port", "{port}", "--timeout", "60000"),
    ),
    Peer(
        "MLServer",
        "mlserver",
        "gRPC, Open Inference Protocol",
        wire_forms.open_inference,
        wire_forms.read_open_inference,
        _mlserver,
    ),
    Peer(
        "LitServe",
        "litserve",
        "HTTP, base64 in JSON",
        wire_forms.base64_whole,
        wire_forms.read_json_rows,
        _script("litserve", "litserve_server.py", "{port}"),
    ),
    Peer(
        "Ray Serve",
        "ray",
        "HTTP, octets",
        partial(wire_forms.octets, "/"),
        wire_forms.read_octets,
        _script("ray", "ray_app.py", "{port}"),
    ),
    Peer(
        "BentoML",
        "bentoml",
        "HTTP, base64 in JSON",
        wire_forms.base64_each,
        wire_forms.read_json_rows,
        _bentoml,
    ),
    Peer(
        "Flask, model.predict",
        "flask",
        "HTTP, octets",
        partial(wire_forms.octets, "/predict"),
        wire_forms.read_octets,
        _script("flask", "flask_page.py", "{port}"),
    ),
)
