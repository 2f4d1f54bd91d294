"""Implements the calls that change the active versions, and authorises them."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ferserve_server.domain.control_errors import ControlDisabledError, ControlUnauthenticatedError
from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.runtime.addresses import parse_address
from ferserve_server.services.codec import messages

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence
    from pathlib import Path

    from ferserve_server.domain.models import ModelChanges
    from ferserve_server.domain.servable import ModelStatus

    Metadata = Iterable[tuple[str, str | bytes]]

log = structlog.get_logger(__name__)

_SCHEME: Final = b"bearer "


class TokenFileError(Exception):
    """Reports that the token file cannot be used; the text says why."""


def read_token(path: Path | None) -> bytes | None:
    """Reads the token for control calls, without surrounding space; None if no file is named.

    Raises:
        TokenFileError: It cannot be read, or holds nothing.
    """
    if path is None:
        return None
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise TokenFileError(f"control_token_file {path} cannot be read: {error.strerror}") from error
    if not token:
        raise TokenFileError(f"control_token_file {path} is empty; put a token into it")
    return token


class ControlExposedError(Exception):
    """Reports control calls open to other machines without TLS and token; the text says what to do."""


class ControlSettings(Protocol):
    """Declares the settings of control calls, under their names."""

    @property
    def control_listen(self) -> str:
        """Returns the address of control calls, or "off"."""

    @property
    def control_on_main(self) -> bool:
        """Returns True to accept them on the addresses of the service."""

    @property
    def control_token_file(self) -> Path | None:
        """Returns the file with the token that they must carry."""

    @property
    def control_insecure(self) -> bool:
        """Returns True to accept them from other machines without TLS and token."""


def check_exposure(settings: ControlSettings, *, tls: bool, addresses: Sequence[str]) -> None:
    """Rejects settings that would let any machine of the network change the models.

    Args:
        settings: The settings of control calls.
        tls: Whether the service has a certificate.
        addresses: Addresses of the service, gRPC and HTTP, or "off".

    Raises:
        ControlExposedError: Control calls are taken at an address that is not loopback, without TLS, without a
            token, and without `control_insecure`.
    """
    if settings.control_token_file or tls or settings.control_insecure:
        return
    for address in (settings.control_listen, *(addresses if settings.control_on_main else ())):
        with contextlib.suppress(ValueError):  # reported at the address that is listened on
            if address != "off" and not parse_address(address).is_loopback:
                raise ControlExposedError(
                    f"control calls at {address} could be made by anybody who can connect. Give a token "
                    "(--control-token-file) or TLS (--tls-cert-file), listen on a loopback address, or accept it "
                    "with --control-insecure"
                )


class ControlAuthorizer:
    """Authorises control calls at one address. Thread-safe.

    Args of the constructor:
        is_open: Whether such calls are taken at all.
        elsewhere: Whether they are taken at another address; the error names it.
        token: What they must carry, or None for nothing.
    """

    def __init__(self, *, is_open: bool, elsewhere: bool = False, token: bytes | None = None) -> None:
        self._is_open = is_open
        self._unsupported = elsewhere
        self._token = token

    def check(self, metadata: Metadata) -> None:
        """Authorises one call.

        Args:
            metadata: Names and values of the call's metadata, or of its HTTP headers.

        Raises:
            ControlDisabledError: Such calls are not taken here.
            ControlUnauthenticatedError: The token is missing or another.
        """
        if not self._is_open:
            raise ControlDisabledError(elsewhere=self._unsupported)
        if self._token is None:
            return
        for name, value in metadata:
            if name.lower() != "authorization":
                continue
            shown = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
            # Takes as long for a token that is nearly right as for one that is not.
            token = shown[len(_SCHEME) :].strip()
            if shown[: len(_SCHEME)].lower() == _SCHEME and hmac.compare_digest(token, self._token):
                return
        raise ControlUnauthenticatedError


def build_control(settings: ControlSettings, models: ModelChanges) -> tuple[ModelControl, ModelControl]:
    """Builds control for the addresses of the service, and for the address of its own.

    Raises:
        TokenFileError: The file of the token cannot be used.
    """
    token = read_token(settings.control_token_file)
    own_address = settings.control_listen != "off"
    main = ControlAuthorizer(is_open=settings.control_on_main, elsewhere=own_address, token=token)
    own = ControlAuthorizer(is_open=own_address, token=token)
    return ModelControl(models, main), ModelControl(models, own)


class ModelControl:
    """Executes control calls of every interface. Event loop only.

    Every method takes the call's metadata first, raises the errors of `ControlAuthorizer.check`, and returns the
    model as it is afterwards.
    """

    def __init__(self, models: ModelChanges, authorizer: ControlAuthorizer) -> None:
        self._models = models
        self._authorizer = authorizer
        self._running: set[asyncio.Task[object]] = set()

    async def load(self, metadata: Metadata, name: str, version: int) -> ModelStatus:
        """Loads a version; see `ModelManager.load`."""
        self._admit(metadata, "load", name, version=_version(version))
        return await self._done(name, self._models.load(name, version))

    async def look(self, metadata: Metadata, name: str) -> ModelStatus:
        """Scans the model folder now, and loads the versions that the policies select.

        Raises:
            ModelNotFoundError: There is no such model afterwards.
            FerserveError: None of its versions is ready; that of the newest one.
        """
        self._admit(metadata, "look", name)
        model = await self._done(name, self._models.refresh())
        if model.serving_version is None and model.versions and model.versions[0].failure is not None:
            raise model.versions[0].failure
        return model

    async def unload(self, metadata: Metadata, name: str, version: int) -> ModelStatus:
        """Unloads a version; see `ModelManager.unload`."""
        self._admit(metadata, "unload", name, version=_version(version))
        return await self._done(name, self._models.unload(name, version))

    async def set_alias(self, metadata: Metadata, name: str, alias: str, version: int | None) -> ModelStatus:
        """Sets an alias, or removes it (None); see `ModelManager.set_alias`."""
        if version is not None:
            _version(version)
        self._admit(metadata, "set_alias", name, alias=messages.parse_alias(alias, "alias"), version=version)
        return await self._done(name, self._models.set_alias(name, alias, version))

    async def promote(self, metadata: Metadata, name: str, version: int) -> ModelStatus:
        """Promotes the canary; version 0 means the current one. See `ModelManager.promote`."""
        wanted = _version(version) if version else None
        self._admit(metadata, "promote", name, version=wanted)
        return await self._done(name, self._models.promote(name, wanted))

    async def roll_back(self, metadata: Metadata, name: str, version: int) -> ModelStatus:
        """Rolls a version back; 0 means the current candidate. See `ModelManager.roll_back`."""
        wanted = _version(version) if version else None
        self._admit(metadata, "roll_back", name, version=wanted)
        return await self._done(name, self._models.roll_back(name, wanted))

    def _admit(self, metadata: Metadata, action: str, name: str, **facts: object) -> None:
        try:
            self._authorizer.check(metadata)
        except (ControlDisabledError, ControlUnauthenticatedError) as error:
            log.warning("control call rejected", action=action, reason=error.reason)
            raise
        messages.parse_model_name(name, "name")
        log.info("control call", action=action, model=name, **facts)

    async def _done(self, name: str, work: Coroutine[object, object, None]) -> ModelStatus:
        """Finishes work even if the caller leaves, because half a load would stay so indefinitely."""
        task: asyncio.Task[object] = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)
        return self._models.model(name)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has the answer, or has left


def _version(version: int) -> int:
    if version < 1:
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            f"version: {version} is not allowed; use 1 or more.",
            field="version",
            value=version,
        )
    return version
