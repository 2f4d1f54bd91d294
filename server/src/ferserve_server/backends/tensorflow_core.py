"""The part of TensorFlow that runs graphs, without the rest of the package.

`import tensorflow` also runs the packages of Keras, of TensorFlow Lite and all that those pick up, which took
10.6 s on a machine where the parts named here took 1.9 s. A SavedModel needs none of it: its operations are in the
library's native code, whoever built the graph.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Final

import structlog

from ferserve_server.collector import set_aside_what_is_there

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
    """TensorFlow's own modules by short names. They are untyped, and the same in 2.18 to 2.21.

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
            set_aside_what_is_there()


def _import_without_package() -> dict[str, ModuleType]:
    """Imports the parts while an empty module stands in for the package, whose own code then does not run.

    The stand-in is taken away afterwards: whoever imports `tensorflow` in the same process later gets all of it,
    on the parts that are there already. A release whose parts do not come up by themselves is imported as a whole.
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
