"""Decides who may make control calls: addresses, tokens, names of client certificates."""

from __future__ import annotations

import contextlib
import hmac
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from ferserve_server.domain.control_errors import (
    ControlDisabledError,
    ControlForbiddenError,
    ControlThrottledError,
    ControlUnauthenticatedError,
)
from ferserve_server.runtime.addresses import parse_address
from ferserve_server.runtime.secret_files import state_of, warn_if_exposed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    Metadata = Iterable[tuple[str, str | bytes]]

log = structlog.get_logger(__name__)

_SCHEME: Final = b"bearer "

_LOOK_S: Final = 1.0
"""Minimum time between looks at the token's file, in seconds."""

_SHORT_TOKEN_BYTES: Final = 16
"""Length below which a warning is logged, in bytes."""

_WRONG_TOKENS: Final = 5
_WRONG_TOKEN_S: Final = 2.0
"""Wrong tokens of a host that are looked at at once, and the seconds after which another one is. A token of 16
random bytes would take 1e31 years at that rate; typing errors of people are answered at once."""

_MAX_HOSTS: Final = 4096
"""Maximum number of hosts whose wrong tokens are counted."""


class Requester(NamedTuple):
    """Describes who makes a control call.

    Attributes:
        metadata: Names and values of the call's metadata, or of its HTTP headers.
        certificate_names: Names in the verified client certificate; empty without one.
        host: Where wrong tokens are counted: the address of the peer, or its certificate.
        name: The caller, for the log.
    """

    metadata: Metadata
    certificate_names: frozenset[str] = frozenset()
    host: str = ""
    name: str = ""


class TokenFileError(Exception):
    """Reports that the token file cannot be used; the text says why."""


def read_token(path: Path) -> bytes:
    """Reads the token for control calls, without surrounding space.

    Raises:
        TokenFileError: It cannot be read, or holds nothing.
    """
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise TokenFileError(f"control_token_file {path} cannot be read: {error.strerror}") from error
    if not token:
        raise TokenFileError(f"control_token_file {path} is empty; put a token into it")
    return token


class TokenFile:
    """Holds the token for control calls, and reads it again when its file changes. Event loop only.

    A file that cannot be used leaves the previous token active.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Reads the token.

        Raises:
            TokenFileError: It cannot be read, or holds nothing.
        """
        self._path = path
        self._now = now
        self._looked_at = now()
        self._state = state_of((path,))
        self._token = read_token(path)
        self._warn()

    def current(self) -> bytes:
        """Returns the token; looks at most once a second whether it has changed."""
        at_s = self._now()
        if at_s - self._looked_at >= _LOOK_S:
            self._looked_at = at_s
            self.refresh()
        return self._token

    def refresh(self) -> None:
        """Reads the token if its file has changed."""
        state = state_of((self._path,))
        if state == self._state:
            return
        self._state = state
        try:
            self._token = read_token(self._path)
        except TokenFileError as error:
            log.error("the previous token stays active", error=str(error))  # noqa: TRY400 - nothing is broken
            return
        log.info("control token read again", file=str(self._path))
        self._warn()

    def _warn(self) -> None:
        warn_if_exposed(self._path, "the control token")
        if len(self._token) < _SHORT_TOKEN_BYTES:
            log.warning("the control token is short and could be guessed", advice="openssl rand -hex 32")


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
    def control_names(self) -> Sequence[str]:
        """Returns the names of client certificates that may make them; empty: any."""

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


class WrongTokenLimit:
    """Limits wrong tokens by the host that sends them: a burst of 5, then one in 2 seconds. Event loop only.

    Args of the constructor:
        now: Returns the time, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._full_at: dict[str, float] = {}

    def is_exhausted(self, host: str) -> bool:
        """Returns whether further tokens from a host are not looked at."""
        return self._full_at.get(host, 0.0) - self._now() > (_WRONG_TOKENS - 1) * _WRONG_TOKEN_S

    def note(self, host: str) -> None:
        """Counts a wrong token."""
        now = self._now()
        self._full_at[host] = max(self._full_at.pop(host, 0.0), now) + _WRONG_TOKEN_S
        if len(self._full_at) > _MAX_HOSTS:  # the one whose last wrong token is longest ago
            del self._full_at[next(iter(self._full_at))]


class ControlAuthorizer:
    """Authorises control calls at one address. Event loop only.

    Args of the constructor:
        is_open: Whether such calls are taken at all.
        elsewhere: Whether they are taken at another address; the error names it.
        token: File with the token that they must carry, or None for nothing.
        names: Names of client certificates that may make them; empty: any, and callers without a certificate.
        limit: Limits wrong tokens.
    """

    def __init__(
        self,
        *,
        is_open: bool,
        elsewhere: bool = False,
        token: TokenFile | None = None,
        names: Iterable[str] = (),
        limit: WrongTokenLimit | None = None,
    ) -> None:
        self._is_open = is_open
        self._elsewhere = elsewhere
        self._token = token
        self._names = frozenset(names)
        self._limit = limit or WrongTokenLimit(time.monotonic)

    def check(self, requester: Requester) -> None:
        """Authorises one call.

        Raises:
            ControlDisabledError: Such calls are not taken here.
            ControlForbiddenError: The caller's certificate has none of the names.
            ControlUnauthenticatedError: The token is missing or another.
            ControlThrottledError: There were too many wrong tokens from its host; this one was not looked at.
        """
        if not self._is_open:
            raise ControlDisabledError(elsewhere=self._elsewhere)
        if self._names and not self._names & requester.certificate_names:
            raise ControlForbiddenError
        if self._token is None:
            return
        shown = _shown_token(requester.metadata)
        if shown is None:
            raise ControlUnauthenticatedError
        if self._limit.is_exhausted(requester.host):
            raise ControlThrottledError(_WRONG_TOKEN_S)
        # Takes as long for a token that is nearly right as for one that is not.
        if not hmac.compare_digest(shown, self._token.current()):
            self._limit.note(requester.host)
            raise ControlUnauthenticatedError


def _shown_token(metadata: Metadata) -> bytes | None:
    for name, value in metadata:
        if name.lower() == "authorization":
            shown = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
            if shown[: len(_SCHEME)].lower() == _SCHEME:
                return shown[len(_SCHEME) :].strip()
    return None


def opened_token(settings: ControlSettings) -> TokenFile | None:
    """Opens the file with the token, if the settings name one.

    Raises:
        TokenFileError: It cannot be used.
    """
    return None if settings.control_token_file is None else TokenFile(settings.control_token_file)


def build_authorizers(
    settings: ControlSettings, token: TokenFile | None, now: Callable[[], float] = time.monotonic
) -> tuple[ControlAuthorizer, ControlAuthorizer]:
    """Builds what authorises calls at the addresses of the service, and at the address of control calls."""
    limit = WrongTokenLimit(now)
    own_address = settings.control_listen != "off"
    names = settings.control_names
    return (
        ControlAuthorizer(
            is_open=settings.control_on_main, elsewhere=own_address, token=token, names=names, limit=limit
        ),
        ControlAuthorizer(is_open=own_address, token=token, names=names, limit=limit),
    )
