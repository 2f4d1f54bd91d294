"""The methods of services in the form that gRPC servers take them, found by their paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import grpc

Handler = Any
"""A `grpc.RpcMethodHandler`; its fields are known only where it is used."""


class MethodTable:
    """Takes services in as `grpc.aio.Server` does, so that one function registers them with either."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._generic: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Takes in handlers that are asked for each path."""
        self._generic.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Takes in the methods of a service, by name. Generated code gives them in both ways."""
        self._handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    def find(self, path: str) -> Handler | None:
        """The method of a path, /package.Service/Method; None if there is none."""
        known = self._handlers.get(path)
        if known is None:
            details: Any = _Details(path)
            for generic in self._generic:
                known = generic.service(details)
                if known is not None:
                    # Not for unknown paths, which peers could fill memory with.
                    self._handlers[path] = known
                    break
        return known


class _Details:
    """Implements what generic handlers ask of `grpc.HandlerCallDetails`."""

    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method
