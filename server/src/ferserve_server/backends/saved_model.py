"""Runs TensorFlow SavedModels. The only module that imports TensorFlow, and only when a model is loaded."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from ferserve_server.domain.errors import ModelRejectedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, ServableId

log = structlog.get_logger(__name__)

_SIGNATURE = "serving_default"


class SavedModelServable:
    """A SavedModel as a frozen graph behind session callables, one session for each batch that runs at once.

    The way through a session's callable costs less than the signature call (benchmarks/engine.py). Two threads
    must not share a session: with oneDNN, TensorFlow 2.21 then dies of a segmentation fault within seconds.
    """

    def __init__(
        self,
        servable_id: ServableId,
        description: ModelDescription,
        *,
        make_session: Callable[[], Any],
        run_name: tuple[str, str],
        executor_count: int,
    ) -> None:
        """Makes the sessions and runs each once, since the first run optimises the graph.

        Args:
            servable_id: Which version it is.
            description: What its manifest says.
            make_session: Makes a session on the frozen graph.
            run_name: Names of the output tensor and of the input tensor.
            executor_count: Batches that run at once.
        """
        self.id = servable_id
        self.description = description
        self.executor_count = executor_count
        self._make_session = make_session
        self._output_name, self._input_name = run_name
        self._sessions: list[Any] = []
        # The one used last is taken first: its weights are still in the caches. Appending and popping are atomic.
        self._idle = [self._new_run() for _ in range(executor_count)]

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch; see `domain.ports.Servable`."""
        try:
            run = self._idle.pop()
        except IndexError:  # a run that hangs keeps its session; the thread in its place needs another
            run = self._new_run()
        try:
            scores: Scores = run(crops)
        finally:
            self._idle.append(run)
        return scores

    def close(self) -> None:
        """Gives the sessions' memory back."""
        self._idle.clear()
        for session in self._sessions:
            session.close()

    def _new_run(self) -> Any:  # noqa: ANN401 - TensorFlow ships no types
        session = self._make_session()
        self._sessions.append(session)
        run = session.make_callable(self._output_name, [self._input_name])
        run(np.zeros((1, self.description.input.height, self.description.input.width, 1), np.uint8))
        return run


class SavedModelLoader:
    """Loads SavedModels onto the GPU where TensorFlow sees one, else onto the CPU.

    Args of the constructor:
        executor_count: Batches that run at once; 0 picks one per core on the CPU and 1 on a GPU.
        intra_op_thread_count: Threads within one operation, 1 or more.
        gpu_memory_limit_mib: Cap of GPU memory in MiB; 0 lets it grow as needed.

    Thread-safety: `load` may be called from any thread, one at a time.
    """

    def __init__(self, *, executor_count: int, intra_op_thread_count: int, gpu_memory_limit_mib: int) -> None:
        self._executor_count = executor_count
        self._intra_op_thread_count = intra_op_thread_count
        self._gpu_memory_limit_mib = gpu_memory_limit_mib

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> SavedModelServable:
        """Loads a version; see `domain.ports.Loader`.

        Raises:
            ModelRejectedError: SIGNATURE_MISMATCH, if the signature is not the one that the manifest describes.
        """
        # TensorFlow writes a page to stderr at import; errors still come as exceptions.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf  # noqa: PLC0415 - takes seconds, and only a server that loads a model needs it
        from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415 - as above
            convert_variables_to_constants_v2,
        )

        self._bound_threads(tf)
        gpus = self._set_up_gpus(tf)
        model = tf.saved_model.load(str(directory))
        signature = model.signatures.get(_SIGNATURE)
        _check_signature(signature, description)
        with tf.device("/CPU:0"):  # the constants are placed again when the session is made
            frozen = convert_variables_to_constants_v2(signature)
        input_name = next(each.name for each in frozen.inputs if each.dtype != tf.resource)
        output_name = _output_tensor(signature, frozen, description.output)
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
        executor_count = self._executor_count or (1 if gpus else _cpu_count())
        log.info(
            "model loaded", servable=str(servable_id), device="gpu" if gpus else "cpu", executors=executor_count
        )
        return SavedModelServable(
            servable_id,
            description,
            make_session=lambda: tf.compat.v1.Session(graph=graph, config=self._session_config(tf)),
            run_name=(output_name, input_name),
            executor_count=executor_count,
        )

    def _bound_threads(self, tf: Any) -> None:  # noqa: ANN401 - TensorFlow ships no types
        """Keeps TensorFlow's loading, which has thread pools of its own, from taking every core."""
        with contextlib.suppress(RuntimeError):  # set before, or this process has used TensorFlow already
            tf.config.threading.set_intra_op_parallelism_threads(self._intra_op_thread_count)
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def _set_up_gpus(self, tf: Any) -> list[Any]:  # noqa: ANN401 - TensorFlow ships no types
        gpus: list[Any] = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            if not self._gpu_memory_limit_mib:
                tf.config.experimental.set_memory_growth(gpu, True)
            else:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=self._gpu_memory_limit_mib)
                tf.config.set_logical_device_configuration(gpu, [limit])
        return gpus

    def _session_config(self, tf: Any) -> Any:  # noqa: ANN401 - TensorFlow ships no types
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=self._intra_op_thread_count,
            # -1 runs the graph in the caller's thread instead of handing it to a pool.
            inter_op_parallelism_threads=-1,
            use_per_session_threads=True,
        )
        config.gpu_options.allow_growth = not self._gpu_memory_limit_mib
        return config


def _check_signature(signature: Any, description: ModelDescription) -> None:  # noqa: ANN401 - untyped TensorFlow
    if signature is None:
        raise ModelRejectedError("SIGNATURE_MISMATCH", f"There is no signature {_SIGNATURE}.")
    inputs = signature.structured_input_signature[1]
    wanted = description.input
    if list(inputs) != [wanted.name]:
        raise ModelRejectedError("SIGNATURE_MISMATCH", f"The inputs are {sorted(inputs)}, not [{wanted.name!r}].")
    spec = inputs[wanted.name]
    if spec.dtype.as_numpy_dtype is not np.uint8 or spec.shape.as_list() != [None, wanted.height, wanted.width, 1]:
        raise ModelRejectedError("SIGNATURE_MISMATCH", f"The input is {spec}, not uint8 [N, H, W, 1].")
    output = signature.structured_outputs.get(description.output)
    if output is None:
        raise ModelRejectedError("SIGNATURE_MISMATCH", f"There is no output {description.output!r}.")
    if output.shape.as_list()[-1] != len(description.labels):
        raise ModelRejectedError(
            "SIGNATURE_MISMATCH", f"{description.output} is {output.shape}, not one score per label."
        )


def _output_tensor(signature: Any, frozen: Any, name: str) -> str:  # noqa: ANN401 - untyped TensorFlow
    """Finds the frozen graph's tensor for a named output; outputs are in the order of their sorted names."""
    position = sorted(signature.structured_outputs).index(name)
    tensor: str = frozen.outputs[position].name
    return tensor


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
