"""Reads the messages of calls so that one that cannot be read is an answered, counted call like any other.

A deserializer that raises does so before the handler runs: gRPC then answers INTERNAL, as for a fault of the
server, and nobody counts the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.services.message_parts import check_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class UnreadableMessage:
    """Stands for a message whose bytes could not be read, or were not.

    Args of the constructor:
        name: Full name of the message in the proto.
        rejection: Why they were not; None if they could not.
    """

    def __init__(self, name: str, rejection: InvalidRequestError | None = None) -> None:
        self.name = name
        self._rejection = rejection

    def error(self) -> InvalidRequestError:
        """Makes the error of the call."""
        return self._rejection or unreadable_error(self.name)


def unreadable_error(name: str) -> InvalidRequestError:
    """Makes the error of bytes that are no message of that name."""
    return InvalidRequestError(
        "MESSAGE_UNREADABLE", f"These bytes are no {name}. Send one as the service's proto has it.", field=""
    )


def deserializer(kind: Any) -> Callable[[bytes], Any]:  # noqa: ANN401 - a message class, also of the private pool
    """Makes a deserializer of a message class that returns `UnreadableMessage` where others raise."""
    name = kind.DESCRIPTOR.full_name

    def read(data: bytes) -> Any:  # noqa: ANN401 - as above
        try:
            check_parts(data, kind.DESCRIPTOR)
            return kind.FromString(data)
        except InvalidRequestError as error:
            return UnreadableMessage(name, error.with_traceback(None))
        except DecodeError:
            return UnreadableMessage(name)

    return read


def check_readable(request: object) -> None:
    """Checks what a deserializer has returned.

    Raises:
        InvalidRequestError: MESSAGE_UNREADABLE.
    """
    if isinstance(request, UnreadableMessage):
        raise request.error()


def method_handler(
    handle: Callable[..., Any],
    request: Any,  # noqa: ANN401 - message classes, also of the private pool
    response: Any,  # noqa: ANN401 - as above
    *,
    streaming: bool = False,
) -> Any:  # noqa: ANN401 - grpc.RpcMethodHandler, which has no types
    """Makes the handler of a method that is unary on both sides, or streaming on both."""
    make = grpc.stream_stream_rpc_method_handler if streaming else grpc.unary_unary_rpc_method_handler
    return make(handle, deserializer(request), response.SerializeToString)


def service_handler(
    service: Any,  # noqa: ANN401 - a ServiceDescriptor
    handlers: Mapping[str, Callable[..., Any]],
    message_class: Callable[[Any], Any],
) -> grpc.GenericRpcHandler:
    """Makes the handlers of a service, in the form that a server takes; arity and messages are those of the proto.

    Args:
        service: Its descriptor.
        handlers: One for every method of it, by name.
        message_class: Gives the class of a message descriptor.

    Raises:
        ValueError: A method has no handler, or a handler no method.
    """
    methods = service.methods_by_name
    if set(methods) != set(handlers):
        missing = sorted(set(methods) ^ set(handlers))
        raise ValueError(f"{service.full_name}: {missing} are not on both sides")
    made = {
        name: method_handler(
            handle,
            message_class(methods[name].input_type),
            message_class(methods[name].output_type),
            streaming=methods[name].client_streaming,
        )
        for name, handle in handlers.items()
    }
    return grpc.method_handlers_generic_handler(service.full_name, made)
