"""Runs TensorFlow SavedModels, in float32 or in bfloat16."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from ferserve_server.backends.processor import cpu_count, multiplies_bfloat16, read_cpuinfo
from ferserve_server.backends.signature import SIGNATURE, check_signature
from ferserve_server.backends.tensorflow_core import TensorFlowCore
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.servable import ModelDescription, ServableId

log = structlog.get_logger(__name__)

_TAG = "serve"


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """A SavedModel's graph with its weights in it.

    Attributes:
        make_session: Makes a session on it, in a precision.
        output_name: Its output tensor, with the probabilities.
        input_name: Its input tensor.
        on_gpu: Whether it runs on a GPU.
        on_serving_thread: Runs something on a thread of the priority that callers are served at, and waits for it.
    """

    make_session: Callable[[Precision], Any]
    output_name: str
    input_name: str
    on_gpu: bool
    on_serving_thread: Callable[[Callable[[], None]], None]


class SavedModelServable:
    """A SavedModel as a frozen graph behind session callables, one session for each batch that runs at once.

    The way through a session's callable costs less than the signature call (benchmarks/engine.py). Two threads
    must not share a session: with oneDNN, TensorFlow 2.21 then dies of a segmentation fault within seconds.

    A session computes on threads of its own, which have the priority of the thread that made it, for good. So a
    batch takes a session that was made at its own thread's priority: trials give way to callers, and callers never
    get what was made to give way.
    """

    def __init__(
        self,
        servable_id: ServableId,
        description: ModelDescription,
        graph: FrozenGraph,
        *,
        executor_count: int,
        precision: Precision = Precision.FLOAT32,
    ) -> None:
        """Makes the first session and runs it once, since the first run optimises the graph.

        Args:
            servable_id: Which version it is.
            description: What its manifest says.
            graph: What to run.
            executor_count: Batches that run at once.
            precision: What it computes in.
        """
        self.id = servable_id
        self.description = description
        self.executor_count = executor_count
        self.precision = precision
        self._graph = graph
        self._sessions: list[Any] = []
        # The one used last is taken first: its weights are still in the caches. Appending and popping are atomic.
        self._idle: defaultdict[int, list[Any]] = defaultdict(list)
        graph.on_serving_thread(self._note_serving_priority)
        self._idle[_priority()].append(self._new_run())

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch; see `domain.ports.Servable`."""
        idle = self._idle[_priority()]
        try:
            run = idle.pop()
        except IndexError:  # a run that hangs keeps its session; the thread in its place needs another
            run = self._new_run()
        try:
            scores: Scores = run(crops)
        finally:
            idle.append(run)
        return scores

    def recast(self, precision: Precision) -> SavedModelServable:
        """Makes the same version in another precision; see `domain.ports.Servable`."""
        if precision is Precision.BFLOAT16:
            if self._graph.on_gpu:
                raise _unsupported("bfloat16 is for the CPU, and this server computes on a GPU.")
            if not multiplies_bfloat16(read_cpuinfo()):
                raise _unsupported("The processor has neither avx512_bf16 nor amx_bf16.")
        return SavedModelServable(
            self.id, self.description, self._graph, executor_count=self.executor_count, precision=precision
        )

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Makes and warms the sessions of all executors; see `domain.ports.Servable`."""
        idle = self._idle[self._serving_priority]
        warm = list(idle)

        def add(_: int) -> None:
            run = self._new_run(serving=True)
            for size in bucket_sizes:
                run(self._blank(size))
            warm.append(run)

        with ThreadPoolExecutor(thread_count) as threads:
            list(threads.map(add, range(self.executor_count - len(warm))))
        idle[:] = warm

    def add_spare(self, bucket_sizes: Sequence[int]) -> None:
        """Makes and warms one session more; see `domain.ports.Servable`."""
        own = self._idle[_priority()]
        if len(self._sessions) > self.executor_count and own:
            return
        run = self._new_run()
        for size in bucket_sizes:
            run(self._blank(size))
        own.insert(0, run)  # taken last: the others have been used more lately

    def close(self) -> None:
        """Gives the sessions' memory back."""
        self._idle.clear()
        for session in self._sessions:
            session.close()

    def _note_serving_priority(self) -> None:
        self._serving_priority = _priority()

    def _new_run(self, *, serving: bool = False) -> Any:  # noqa: ANN401 - TensorFlow ships no types
        made: list[Any] = []

        def make() -> None:
            made.append(self._graph.make_session(self.precision))

        if serving:
            self._graph.on_serving_thread(make)
        else:
            make()
        session = made[0]
        self._sessions.append(session)
        run = session.make_callable(self._graph.output_name, [self._graph.input_name])
        run(self._blank(1))
        return run

    def _blank(self, size: int) -> CropBatch:
        return np.zeros((size, self.description.input.height, self.description.input.width, 1), np.uint8)


class SavedModelLoader:
    """Loads SavedModels onto the GPU where TensorFlow sees one, else onto the CPU.

    Args of the constructor:
        executor_count: Batches that run at once; 0 picks one per core on the CPU and 1 on a GPU.
        intra_op_thread_count: Threads within one operation, 1 or more.
        gpu_memory_limit_mib: Cap of GPU memory in MiB; 0 lets it grow as needed.
        on_serving_thread: See `FrozenGraph`; in this thread, unless told otherwise.

    Thread-safety: `load` may be called from any thread, one at a time.
    """

    def __init__(
        self,
        *,
        executor_count: int,
        intra_op_thread_count: int,
        gpu_memory_limit_mib: int,
        on_serving_thread: Callable[[Callable[[], None]], None] = lambda work: work(),
    ) -> None:
        self._executor_count = executor_count
        self._intra_op_thread_count = intra_op_thread_count
        self._gpu_memory_limit_mib = gpu_memory_limit_mib
        self._on_serving_thread = on_serving_thread

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> SavedModelServable:
        """Loads a version in float32; see `domain.ports.Loader`.

        Raises:
            ModelRejectedError: SIGNATURE_MISMATCH, if the signature is not the one that the manifest describes.
        """
        tf = TensorFlowCore()  # here, since it takes seconds and only a server that loads a model needs it
        graph = self._freeze(tf, directory, description)
        executor_count = self._executor_count or (1 if graph.on_gpu else cpu_count())
        device = "gpu" if graph.on_gpu else "cpu"
        log.info("model loaded", servable=str(servable_id), device=device, executors=executor_count)
        return SavedModelServable(servable_id, description, graph, executor_count=executor_count)

    def start_shared_threads(self) -> None:
        """Starts the threads that the sessions of a process share, with the calling thread's priority.

        TensorFlow makes them with the first session, for good.
        """
        tf = TensorFlowCore()
        tf.session.Session(graph=tf.ops.Graph(), config=self._session_config(tf, Precision.FLOAT32)).close()

    def _freeze(self, tf: TensorFlowCore, directory: Path, description: ModelDescription) -> FrozenGraph:
        """Restores the variables in a session on the CPU, and makes constants of them.

        The constants are placed again when a session of its own is made.
        """
        threads = self._session_config(tf, Precision.FLOAT32)
        threads.device_count["GPU"] = 0
        restored = tf.ops.Graph()
        with restored.as_default(), tf.session.Session(graph=restored, config=threads) as session:
            meta_graph = tf.loader_impl.SavedModelLoader(str(directory)).load(session, [_TAG])
            signature = meta_graph.signature_def.get(SIGNATURE)
            check_signature(tf, signature, description)
            output_name: str = signature.outputs[description.output].name
            input_name: str = signature.inputs[description.input.name].name
            with tf.deprecation.silence():  # of the page that says which parts are not of TensorFlow 2
                definition = tf.convert.convert_variables_to_constants_from_session_graph(
                    session, restored.as_graph_def(), [output_name.partition(":")[0]]
                )
        graph = tf.ops.Graph()
        with graph.as_default():
            tf.importer.import_graph_def(definition, name="")

        def make_session(precision: Precision) -> Any:  # noqa: ANN401 - TensorFlow ships no types
            return tf.session.Session(graph=graph, config=self._session_config(tf, precision))

        return FrozenGraph(
            make_session,
            output_name,
            input_name,
            on_gpu=bool(tf.config.list_physical_devices("GPU")),
            on_serving_thread=self._on_serving_thread,
        )

    def _session_config(self, tf: TensorFlowCore, precision: Precision) -> Any:  # noqa: ANN401 - untyped TensorFlow
        config = tf.config_pb2.ConfigProto(
            intra_op_parallelism_threads=self._intra_op_thread_count,
            # -1 runs the graph in the caller's thread instead of handing it to a pool.
            inter_op_parallelism_threads=-1,
            use_per_session_threads=True,
        )
        if precision is Precision.BFLOAT16:
            # Convolutions and products in bfloat16, with sums in float32; what loses by it stays in float32.
            config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = (
                tf.rewriter_pb2.RewriterConfig.ON
            )
        if self._gpu_memory_limit_mib:
            config.gpu_options.experimental.virtual_devices.add().memory_limit_mb.append(
                self._gpu_memory_limit_mib
            )
        else:
            config.gpu_options.allow_growth = True
        return config


def _priority() -> int:
    """The priority of this thread; where threads have none of their own, that of the process."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def _unsupported(why: str) -> ModelRejectedError:
    return ModelRejectedError(
        "PRECISION_UNSUPPORTED", f"{why} Use --precision auto or float32.", precision=Precision.BFLOAT16.value
    )
