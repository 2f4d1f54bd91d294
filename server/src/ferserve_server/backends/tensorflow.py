"""Runs TensorFlow SavedModels in float32 or bfloat16.

It imports the part of TensorFlow that runs graphs, without the rest of the package. `import tensorflow` also runs
the packages of Keras, of TensorFlow Lite and all their imports, which took 10.6 s on a machine where the parts
named here took 1.9 s. A SavedModel needs none of it: its operations are in the library's native code, whatever
built the graph.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import structlog

from ferserve_server.backends.processor import cpu_count, multiplies_bfloat16, read_cpuinfo
from ferserve_server.backends.sessions import (
    Session,
    SessionServable,
    TensorSpec,
    check_signature,
    join_outputs,
    output_names_of,
    precision_unsupported,
    signature_mismatch,
)
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision
from ferserve_server.models.manifest import SAVED_MODEL_PATH
from ferserve_server.runtime.garbage_collection import freeze_startup_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ferserve_server.domain.servable import ModelDescription, ServableId


log = structlog.get_logger(__name__)

_PARTS: Final = {
    "config_pb2": "tensorflow.core.protobuf.config_pb2",
    "rewriter_pb2": "tensorflow.core.protobuf.rewriter_config_pb2",
    "ops": "tensorflow.python.framework.ops",
    "importer": "tensorflow.python.framework.importer",
    "session": "tensorflow.python.client.session",
    "loader_impl": "tensorflow.python.saved_model.loader_impl",
    "config": "tensorflow.python.framework.config",
    "dtypes": "tensorflow.python.framework.dtypes",
    "deprecation": "tensorflow.python.util.deprecation",
    "convert": "tensorflow.python.framework.convert_to_constants",
}


class TensorFlowCore:
    """Holds TensorFlow's own modules by short names. They are untyped, and the same in 2.18 to 2.21.

    Thread-safety: make one at a time, on any thread.
    """

    def __init__(self) -> None:
        # TensorFlow writes a page to stderr at import; errors still come as exceptions.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        is_first = _PARTS["session"] not in sys.modules
        parts = _import_parts() if "tensorflow" in sys.modules else _import_without_package()
        self.config_pb2: Any = parts["config_pb2"]
        self.rewriter_pb2: Any = parts["rewriter_pb2"]
        self.ops: Any = parts["ops"]
        self.importer: Any = parts["importer"]
        self.session: Any = parts["session"]
        self.loader_impl: Any = parts["loader_impl"]
        self.config: Any = parts["config"]
        self.dtypes: Any = parts["dtypes"]
        self.deprecation: Any = parts["deprecation"]
        self.convert: Any = parts["convert"]
        if is_first:
            freeze_startup_objects()


def _import_without_package() -> dict[str, ModuleType]:
    """Imports the parts while an empty module replaces the package, whose own code then does not run.

    The replacement is removed afterwards: a later `import tensorflow` in the same process gets all of it, on the
    parts that are already imported. A release whose parts cannot be imported separately is imported as a whole.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("TensorFlow is not installed; install ferserve-server[cpu] or [gpu].")
    stand_in = ModuleType("tensorflow")
    stand_in.__path__ = list(spec.submodule_search_locations)
    stand_in.__spec__ = spec
    sys.modules["tensorflow"] = stand_in
    try:
        return _import_parts()
    except (ImportError, AttributeError) as error:
        log.warning("TensorFlow is imported as a whole, which takes longer", error=repr(error))
    finally:
        if sys.modules.get("tensorflow") is stand_in:
            del sys.modules["tensorflow"]
    importlib.import_module("tensorflow")
    return _import_parts()


def _import_parts() -> dict[str, ModuleType]:
    return {name: importlib.import_module(path) for name, path in _PARTS.items()}


_SIGNATURE = "serving_default"
_TAG = "serve"

_ON_GPU: Final = 2
"""Batches at once on a GPU: one that it computes, and one whose faces are transferred meanwhile."""


class SavedModelLoader:
    """Loads SavedModels onto the GPU where TensorFlow sees one, else onto the CPU.

    Each becomes a frozen graph behind session callables: that way costs less than the signature call
    (benchmarks/engine.py). Two threads must not share a session: with oneDNN, TensorFlow 2.21 then dies of a
    segmentation fault within seconds.

    Args of the constructor:
        executor_count: Batches that run at once; 0 picks one per core on the CPU, and on a GPU `_ON_GPU`.
        intra_op_thread_count: Threads within one operation, 1 or more.
        gpu_memory_limit_mib: Cap of GPU memory in MiB; 0 lets it grow as needed.
        gpu_xla: True if XLA compiles the graph on a GPU; TensorFlow leaves that on a CPU to its own flag.

    Thread-safety: `load` may be called from any thread, one at a time.
    """

    def __init__(
        self,
        *,
        executor_count: int,
        intra_op_thread_count: int,
        gpu_memory_limit_mib: int = 0,
        gpu_xla: bool = False,
    ) -> None:
        self._executor_count = executor_count
        self._intra_op_thread_count = intra_op_thread_count
        self._gpu_memory_limit_mib = gpu_memory_limit_mib
        self._gpu_xla = gpu_xla

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> SessionServable:
        """Loads a version in float32; see `domain.ports.Loader`.

        Raises:
            ModelRejectedError: SAVED_MODEL_MISSING, if the version is an ONNX file alone; SIGNATURE_MISMATCH, if
                the signature is not the one that the manifest describes.
        """
        if not (directory / SAVED_MODEL_PATH).is_file():
            raise ModelRejectedError(
                "SAVED_MODEL_MISSING",
                f"There is no {SAVED_MODEL_PATH}: the version is an ONNX file. Serve it with "
                "--backend onnxruntime or --backend openvino.",
            )
        tf = TensorFlowCore()  # here, since it takes seconds and only a server that loads a model needs it
        open_session = self._freeze(tf, directory, description)
        on_gpu = _on_gpu(tf)
        executor_count = self._executor_count or (_ON_GPU if on_gpu else cpu_count())
        device = "gpu" if on_gpu else "cpu"
        if self._gpu_xla and not on_gpu:
            log.warning("there is no GPU that --gpu-xla could compile for", servable=str(servable_id))
        log.info("model loaded", servable=str(servable_id), device=device, executors=executor_count)
        return SessionServable(servable_id, description, open_session, executor_count=executor_count)

    def import_engine(self) -> None:
        """Imports TensorFlow, which takes seconds."""
        TensorFlowCore()

    def start_shared_threads(self) -> None:
        """Starts the threads that the sessions of a process share, with the calling thread's priority.

        TensorFlow makes them with the first session, permanently.
        """
        tf = TensorFlowCore()
        tf.session.Session(graph=tf.ops.Graph(), config=self._session_config(tf, Precision.FLOAT32)).close()

    def _freeze(
        self, tf: TensorFlowCore, directory: Path, description: ModelDescription
    ) -> Callable[[Precision], Session]:
        """Restores the variables in a session on the CPU, and makes constants of them.

        Returns:
            A function that opens sessions on the constants, which are placed again in each.
        """
        threads = self._session_config(tf, Precision.FLOAT32)
        threads.device_count["GPU"] = 0
        restored = tf.ops.Graph()
        with restored.as_default(), tf.session.Session(graph=restored, config=threads) as session:
            meta_graph = tf.loader_impl.SavedModelLoader(str(directory)).load(session, [_TAG])
            signature = meta_graph.signature_def.get(_SIGNATURE)
            _check(tf, signature, description)
            output_names = [signature.outputs[name].name for name in output_names_of(description)]
            input_name: str = signature.inputs[description.input.name].name
            with tf.deprecation.silence():  # of the page that says which parts are not of TensorFlow 2
                definition = tf.convert.convert_variables_to_constants_from_session_graph(
                    session, restored.as_graph_def(), [name.partition(":")[0] for name in output_names]
                )
        graph = tf.ops.Graph()
        with graph.as_default():
            tf.importer.import_graph_def(definition, name="")

        def open_session(precision: Precision) -> Session:
            if precision is Precision.BFLOAT16:
                _check_bfloat16(tf)
            session = tf.session.Session(graph=graph, config=self._session_config(tf, precision))
            if len(output_names) == 1:
                return Session(session.make_callable(output_names[0], [input_name]), session.close)
            run = session.make_callable(output_names, [input_name])
            return Session(lambda crops: join_outputs(run(crops)), session.close)

        return open_session

    def _session_config(self, tf: TensorFlowCore, precision: Precision) -> Any:  # noqa: ANN401 - untyped TensorFlow
        config = tf.config_pb2.ConfigProto(
            intra_op_parallelism_threads=self._intra_op_thread_count,
            # -1 runs the graph in the caller's thread instead of handing it to a pool.
            inter_op_parallelism_threads=-1,
            use_per_session_threads=True,
        )
        if precision is Precision.BFLOAT16:
            # Convolutions and products in bfloat16, with sums in float32; sensitive operations stay in float32.
            config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = (
                tf.rewriter_pb2.RewriterConfig.ON
            )
        if self._gpu_xla:
            config.graph_options.optimizer_options.global_jit_level = tf.config_pb2.OptimizerOptions.ON_1
        if self._gpu_memory_limit_mib:
            config.gpu_options.experimental.virtual_devices.add().memory_limit_mb.append(
                self._gpu_memory_limit_mib
            )
        else:
            config.gpu_options.allow_growth = True
        return config


def _on_gpu(tf: TensorFlowCore) -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _check_bfloat16(tf: TensorFlowCore) -> None:
    if _on_gpu(tf):
        raise precision_unsupported("bfloat16 is for the CPU, and this server computes on a GPU.")
    if not multiplies_bfloat16(read_cpuinfo()):
        raise precision_unsupported("The processor has neither avx512_bf16 nor amx_bf16.")


def _check(tf: TensorFlowCore, signature: Any, description: ModelDescription) -> None:  # noqa: ANN401 - untyped TensorFlow
    if signature is None:
        raise signature_mismatch(f"There is no signature {_SIGNATURE}.")
    check_signature(_specs(tf, signature.inputs), _specs(tf, signature.outputs), description)


def _specs(tf: TensorFlowCore, tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            tf.dtypes.as_dtype(tensor.dtype).name, tuple(side.size for side in tensor.tensor_shape.dim)
        )
        for name, tensor in tensors.items()
    }
