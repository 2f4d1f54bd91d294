"""Identifies callers: by their verified certificate, otherwise by their connection.

There is one function for each kind of server. Headers are ignored: a caller could write a new name into each call,
and get a share of the queues for each of them.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId, CallerKind
from ferserve_server.services.control_access import Requester

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Iterable

    from ferserve_server.services.control_access import Metadata

_NAMELESS: Final = itertools.count()
"""Numbers of connections whose peers have no address, which are those over Unix-domain sockets."""

_known: WeakKeyDictionary[asyncio.BaseTransport | ssl.SSLObject, CallerId] = WeakKeyDictionary()
"""Callers by connection: by its TLS object if it has one, because uvloop's TLS transports cannot be weakly
referenced.
"""


def caller_of_transport(transport: asyncio.BaseTransport) -> CallerId:
    """Identifies the caller behind a connection on Python's own sockets. Event loop only."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    connection = transport if tls is None else tls
    known = _known.get(connection)
    if known is None:
        known = _known[connection] = _identified(transport, tls)
    return known


def _identified(transport: asyncio.BaseTransport, tls: ssl.SSLObject | None) -> CallerId:
    if tls is not None and (names := _certificate_names(tls.getpeercert() or {})):
        return CallerId(CallerKind.CERTIFICATE, _joined(names))
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return CallerId(CallerKind.CONNECTION, f"{peer[0]}:{peer[1]}")
    return CallerId(CallerKind.CONNECTION, f"{os.getpid()}.{next(_NAMELESS)}")


def caller_of_context(context: Any) -> CallerId:  # noqa: ANN401 - grpcio's context, or this server's own
    """Identifies the caller of a gRPC call.

    grpcio does not tell connections over a socket's file apart: all of them are one caller.
    """
    known = getattr(context, "caller", None)
    if isinstance(known, CallerId):
        return known
    # Names are there only if the certificate was verified (grpc.ssl_server_credentials with authorities).
    identities = getattr(context, "peer_identities", lambda: None)()
    if identities:
        return CallerId(CallerKind.CERTIFICATE, _joined(name.decode("utf-8", "replace") for name in identities))
    peer = getattr(context, "peer", lambda: "")()
    return CallerId(CallerKind.CONNECTION, peer) if peer else UNKNOWN_CALLER


def requester_of_transport(transport: asyncio.BaseTransport | None, metadata: Metadata) -> Requester:
    """Identifies the caller of a control call on Python's own sockets. Event loop only."""
    if transport is None:
        return Requester(metadata)
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    names = frozenset(() if tls is None else _certificate_names(tls.getpeercert() or {}))
    return _requester(caller_of_transport(transport), names, metadata)


def requester_of_context(context: Any) -> Requester:  # noqa: ANN401 - grpcio's context, or this server's own
    """Identifies the caller of a control call over gRPC."""
    metadata = context.invocation_metadata() or ()
    if hasattr(context, "transport"):
        return requester_of_transport(context.transport, metadata)
    identities = getattr(context, "peer_identities", lambda: None)() or ()
    names = frozenset(name.decode("utf-8", "replace") for name in identities)
    return _requester(caller_of_context(context), names, metadata)


def _requester(caller: CallerId, names: frozenset[str], metadata: Metadata) -> Requester:
    host = caller.name
    if caller.kind is CallerKind.CONNECTION:
        host = host.rpartition(":")[0]  # "" for Unix-domain sockets: those of this machine are one host
    return Requester(metadata, names, host, caller.name)


def _certificate_names(certificate: Any) -> list[str]:  # noqa: ANN401 - as the ssl module gives it
    """Returns the alternative names of a verified certificate, or else its common name."""
    names = [str(value) for _, value in certificate.get("subjectAltName", ())]
    if names:
        return names
    subject = itertools.chain.from_iterable(certificate.get("subject", ()))
    return [str(value) for name, value in subject if name == "commonName"]


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
