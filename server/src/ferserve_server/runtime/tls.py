"""Loads the TLS files of a server, and loads them again when they change."""

from __future__ import annotations

import os
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import structlog

from ferserve_server.runtime.addresses import ListenError
from ferserve_server.runtime.secret_files import state_of, warn_if_exposed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger(__name__)

_LOOK_S: Final = 1.0
"""Minimum time between looks at the files, in seconds; one costs three calls of stat."""

_ENCRYPTED: Final = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
"""Marks of an encrypted key: PKCS #8 (RFC 7468, section 11) and the older form (RFC 1421, section 4.6.1.1)."""


_OFFERED: Final[tuple[tuple[str, ...], ...]] = ((), ("h2",))
"""Protocols of ALPN that connections offer: none over HTTP, h2 for gRPC."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Names the PEM files of the server's identity, and of the authorities of callers, if these are verified."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None

    @classmethod
    def named(cls, certificate: Path | None, key: Path | None, client_authorities: Path | None) -> Self | None:
        """Returns the files that the settings name, or None without TLS."""
        return None if certificate is None or key is None else cls(certificate, key, client_authorities)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Returns the paths of the files."""
        authorities = () if self.client_authorities is None else (self.client_authorities,)
        return (self.certificate, self.key, *authorities)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """Holds the contents of the files, PEM."""

    certificate: bytes
    key: bytes
    client_authorities: bytes


class ServerTls:
    """Holds the TLS files of a server, and reads them again when they change. Thread-safe.

    Files that cannot be used leave the previous ones active.

    Attributes:
        generation: How often files were loaded, 1 or more.
    """

    def __init__(self, files: TlsFiles, now: Callable[[], float] = time.monotonic) -> None:
        """Loads the files.

        Args:
            files: Names them.
            now: Returns the time, in seconds.

        Raises:
            ListenError: One cannot be read, or they do not make an identity.
        """
        self._files = files
        self._now = now
        self._lock = threading.Lock()
        self._state = self._failed = state_of(files.paths)
        self._looked_at = now()
        self.generation = 1
        self._material = self._load()
        warn_if_exposed(files.key, "the TLS key")

    def context(self, *protocols: str) -> ssl.SSLContext:
        """Returns the context for a new connection, which offers one of `_OFFERED` by ALPN."""
        self.refresh()
        return self._contexts[protocols]

    def material(self) -> TlsMaterial:
        """Returns the contents of the active files."""
        self.refresh()
        return self._material

    def refresh(self, *, now: bool = False) -> None:
        """Reads the files again if they have changed; looks at most once a second, or with `now` at once."""
        with self._lock:
            at_s = self._now()
            if not now and at_s - self._looked_at < _LOOK_S:
                return
            self._looked_at = at_s
            state = state_of(self._files.paths)
            if state == self._state:
                return
            try:
                self._material = self._load()
            except ListenError as error:
                if state != self._failed:
                    log.error(  # noqa: TRY400 - no trace: nothing is broken
                        "changed TLS files cannot be used; the previous ones stay active", error=str(error)
                    )
                self._failed = state
                return
            self._state = state
            self.generation += 1
            log.info("TLS files read again", certificate=str(self._files.certificate))
            warn_if_exposed(self._files.key, "the TLS key")

    def _load(self) -> TlsMaterial:
        material = _read(self._files)
        # All at once, because the files may be others a moment later.
        self._contexts = {protocols: _context(self._files, protocols) for protocols in _OFFERED}
        return material


def _read(files: TlsFiles) -> TlsMaterial:
    try:
        authorities = files.client_authorities.read_bytes() if files.client_authorities else b""
        material = TlsMaterial(files.certificate.read_bytes(), files.key.read_bytes(), authorities)
    except OSError as error:
        raise ListenError(f"TLS file {error.filename} cannot be read: {error.strerror}") from error
    if any(mark in material.key for mark in _ENCRYPTED):
        raise ListenError(
            f"TLS file {files.key} is an encrypted key, and nobody is there to enter its password. Decrypt it "
            "(openssl pkey -in KEY -out PLAIN_KEY) and let only the server read it"
        )
    return material


def _context(files: TlsFiles, protocols: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    try:
        context.load_cert_chain(files.certificate, files.key, password="")
        if files.client_authorities:
            context.load_verify_locations(files.client_authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, OSError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error
        raise ListenError(
            f"TLS files {', '.join(map(os.fspath, files.paths))} cannot be used: {reason}"
        ) from error
    return context
