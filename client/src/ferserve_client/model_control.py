"""Changes the versions that a server serves. For operators and pipelines, not for callers of the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ferserve_client.calls import call_unary
from ferserve_client.channel import DEFAULT_TARGET, ChannelOptions, TlsOptions, open_channel
from ferserve_client.options import DEFAULT_TIMEOUT_S
from ferserve_client.retry import NO_RETRIES
from ferserve_client.wire import control_requests, responses
from ferserve_client.wire.stubs import Stubs

if TYPE_CHECKING:
    from collections.abc import Callable

    Metadata = tuple[tuple[str, str], ...]
    from types import TracebackType

    from ferserve_client.servables import ModelInfo


def read_token(path: str | Path) -> str:
    """Read the token in a file, without space around it.

    Raises:
        OSError: The file cannot be read.
    """
    return Path(path).read_text("utf-8").strip()


class ModelControl:
    """Changes the versions that a server serves, from blocking code. Thread-safe.

    Every method returns the model as it stands afterwards, and raises `AccessDeniedError` if the server does not
    take control calls there or wants another token, `ModelNotFoundError` for a model, version or alias that is not
    there, `InvalidRequestError` for what may not be done (`error.reason` says why, such as `NO_CANARY`,
    `VERSION_IN_USE` or `ALIAS_FIXED`), and another `FerserveError` if the call failed otherwise. Nothing is tried
    again by itself.

    Args:
        target: Address of the server's control calls, HOST:PORT or any gRPC target.
        token: What the server's `control_token_file` holds. None: none is sent.
        tls: Certificates. None: no TLS; the token is then sent in the clear.
        timeout_s: Deadline of every call, above 0. Loading takes seconds, and goes on if the caller leaves.
        options: Limits and timeouts of the connection.

    Raises:
        OSError: A file of `tls` cannot be read.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        token: str | None = None,
        tls: TlsOptions | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        options: ChannelOptions | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._metadata: Metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._channel = open_channel(target, tls, options or ChannelOptions())
        self._stubs = Stubs(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and every running call. A second time does nothing."""
        self._channel.close()

    def load(self, version: int, *, model: str = "") -> ModelInfo:
        """Load a version and keep it ready whatever the policy says."""
        return self._call(self._stubs.load_version, control_requests.load_request(model, version))

    def unload(self, version: int, *, model: str = "") -> ModelInfo:
        """Take a version out of service until it is loaded again."""
        return self._call(self._stubs.unload_version, control_requests.unload_request(model, version))

    def set_alias(self, alias: str, version: int, *, model: str = "") -> ModelInfo:
        """Make an alias name a version, at once."""
        return self._call(self._stubs.set_alias, control_requests.alias_request(model, alias, version))

    def delete_alias(self, alias: str, *, model: str = "") -> ModelInfo:
        """Remove an alias."""
        return self._call(self._stubs.delete_alias, control_requests.delete_alias_request(model, alias))

    def promote(self, version: int | None = None, *, model: str = "") -> ModelInfo:
        """Make the canary the stable version; `version` is the one taken for it, None whichever it is."""
        return self._call(self._stubs.promote_version, control_requests.promote_request(model, version))

    def roll_back(self, version: int | None = None, *, model: str = "") -> ModelInfo:
        """Take the canary back, or without one what answers; `version` is the one to go, None whichever it is.

        Name the version where the call may be sent twice: without it a second call takes back one more.
        """
        return self._call(self._stubs.roll_back, control_requests.roll_back_request(model, version))

    def _call(self, method: Callable[..., Any], request: object) -> ModelInfo:
        def send(message: object, timeout: float, metadata: Metadata = ()) -> Any:  # noqa: ANN401 - stubs are untyped
            return method(message, timeout=timeout, metadata=self._metadata + metadata)

        return responses.read_model(call_unary(send, request, timeout_s=self._timeout_s, policy=NO_RETRIES).model)
