"""Loads the messages of other servers' interfaces into a separate descriptor pool.

Python's default pool accepts each name only once, so a process could not load these beside `tritonclient` or
`tensorflow_serving`, which bring the same names (docs/adr/0011). `make proto` writes `descriptors.binpb` from
`proto/compat/`.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ferserve_server.services.reading import service_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import FileDescriptor

GenericHandler = grpc.GenericRpcHandler
"""Handler of all methods of one service."""

Message = Any
"""A message of the private pool. Its class is made at run time, so that types cannot tell its fields."""

OPEN_INFERENCE_SERVICE: Final = "inference.GRPCInferenceService"
PREDICTION_SERVICE: Final = "tensorflow.serving.PredictionService"
MODEL_STATUS_SERVICE: Final = "tensorflow.serving.ModelService"


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    serialized = resources.files(__package__).joinpath("descriptors.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
        pool.Add(file)
    return pool


_POOL: Final = _load()


def message_class(name: str) -> Any:  # noqa: ANN401 - see `Message`
    """Returns the class of a message by its full name, such as "inference.ModelInferRequest".

    Raises:
        KeyError: There is none.
    """
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


def generic_handler(service: str, handlers: Mapping[str, Callable[..., Any]]) -> GenericHandler:
    """Makes the handlers of a service for a server; arity and messages are those of the proto.

    Args:
        service: Full name of the service.
        handlers: One for every method of it, by name.

    Raises:
        ValueError: A method has no handler, or a handler no method.
    """
    return service_handler(_POOL.FindServiceByName(service), handlers, message_factory.GetMessageClass)


class ReflectedPools:
    """Looks names up in the default pool and then in the private one, for reflection."""

    def __init__(self) -> None:
        self._default = descriptor_pool.Default()

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """Returns the file of that name."""
        return self._first("FindFileByName", name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """Returns the file that declares a service, a method or a message."""
        return self._first("FindFileContainingSymbol", symbol)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the default pool has it
        # Extensions: the private pool has none.
        return getattr(self._default, name)

    def _first(self, method: str, name: str) -> FileDescriptor:
        found: FileDescriptor
        try:
            found = getattr(self._default, method)(name)
        except KeyError:
            found = getattr(_POOL, method)(name)
        return found
