"""Reads the body of a request, up to the limits.

Bodies may be compressed. The library's own decompression is off: it has no bound on the ratio, and runs on the
event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from ferserve_server.domain.errors import DrainingError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ferserve_server.services.limits import RequestLimits

_CHUNK_BYTES: Final = 256 * 1024

_DRAIN_BODY_S: Final = 1.0
"""Maximum wait for a body once the server drains, because one that is being sent takes less, and one that does
not arrive would delay the drain until its time limit.
"""

_PICTURE_TYPES: Final = ("image/", "application/octet-stream", "application/x-www-form-urlencoded")
"""Accepted media types. `curl --data-binary` sends the last one for any file by default."""


_ENCODINGS: Final = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""Window bits of the accepted content encodings."""

_MAX_RATIO: Final = 100
"""Maximum ratio of a body's length to its compressed length. JSON has 3 to 20, pictures 1, zeros 1,000."""

_RATIO_FREE_BYTES: Final = 1024 * 1024
"""Bodies up to this length may have any ratio."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Holds the pictures of a request.

    Attributes:
        images: The encoded pictures, 1 or more.
        names: The files' names as sent by the caller, one per picture; None if the body itself is the picture.
    """

    images: list[bytes]
    names: list[str] | None


class BodyReader:
    """Reads bodies of requests. Event loop only.

    Args of the constructor:
        limits: Bounds of a request.
        timeout_s: A body must arrive within this many seconds; a slower one would hold memory and a drain up.
    """

    def __init__(self, limits: RequestLimits, timeout_s: float) -> None:
        self._limits = limits
        self._timeout_s = timeout_s
        self._reads: set[asyncio.Timeout] = set()
        self._draining = False

    def drain(self) -> None:
        """Gives bodies in transit a moment longer: nothing of their calls was done yet."""
        self._draining = True
        until = asyncio.get_running_loop().time() + _DRAIN_BODY_S
        for read in self._reads:
            read.reschedule(min(until, read.when() or until))

    async def whole(self, request: web.Request) -> bytes:
        """Reads the whole body.

        Raises:
            LimitExceededError: MESSAGE_TOO_LARGE, as soon as it is known.
            InvalidRequestError: CONTENT_ENCODING_UNSUPPORTED, BODY_INVALID or BODY_TOO_SLOW.
        """
        encoding = _encoding_of(request)
        async with self._reading(request):
            body = await _read_all(request, self._limits)
            return await _decompress(body, encoding, self._limits) if encoding else body

    async def pictures(self, request: web.Request) -> Upload:
        """Reads the picture in the body, or the files of a form.

        Raises:
            LimitExceededError: MESSAGE_TOO_LARGE or TOO_MANY_IMAGES, as soon as it is known.
            InvalidRequestError: CONTENT_TYPE_UNSUPPORTED, CONTENT_ENCODING_UNSUPPORTED, IMAGES_REQUIRED,
                FORM_FIELD_UNKNOWN, BODY_INVALID or BODY_TOO_SLOW.
            DrainingError: It did not come, and the server drains.
        """
        kind = request.content_type.lower()  # "application/octet-stream" if none is given
        encoding = _encoding_of(request)
        async with self._reading(request):
            if kind == "multipart/form-data":
                content = request.content
                if encoding:
                    body = await _decompress(await _read_all(request, self._limits), encoding, self._limits)
                    content = StreamReader(request.protocol, limit=_CHUNK_BYTES)
                    content.feed_data(body)
                    content.feed_eof()
                return await _read_form(request, content, self._limits)
            if not kind.startswith(_PICTURE_TYPES):
                raise InvalidRequestError(
                    "CONTENT_TYPE_UNSUPPORTED",
                    f"A body of {kind[:60]!r} is not understood. Send a picture as image/*, "
                    "or files as multipart/form-data.",
                    field="",
                )
            body = await _read_all(request, self._limits)
            if encoding:
                body = await _decompress(body, encoding, self._limits)
            self._limits.check_image_count(1 if body else 0)
            return Upload([body], None)

    @contextlib.asynccontextmanager
    async def _reading(self, request: web.Request) -> AsyncIterator[None]:
        self._limits.check_message(request.content_length or 0)
        read = asyncio.timeout(min(self._timeout_s, _DRAIN_BODY_S) if self._draining else self._timeout_s)
        self._reads.add(read)
        try:
            async with read:
                yield
        except TimeoutError:
            if self._draining:
                raise DrainingError from None
            raise InvalidRequestError(
                "BODY_TOO_SLOW",
                f"The body did not arrive within {self._timeout_s:g} s (setting http_body_timeout_s).",
                field="",
            ) from None
        # What the library raises of bodies that are not what their headers say.
        except (
            ValueError,
            AssertionError,
            RuntimeError,
            zlib.error,
            HttpProcessingError,
            web.RequestPayloadError,
        ) as error:
            raise InvalidRequestError(
                "BODY_INVALID", "The body is not what its headers say: it cannot be taken apart.", field=""
            ) from error
        finally:
            self._reads.discard(read)


async def _read_all(request: web.Request, limits: RequestLimits) -> bytes:
    chunks: list[bytes] = []
    while chunk := await request.content.readany():
        chunks.append(chunk)
        limits.check_message(request.content.total_bytes)
    return b"".join(chunks)


def decompress(body: bytes, encoding: str, limits: RequestLimits) -> bytes:
    """Decompresses a body. Pure; releases the interpreter's lock.

    Args:
        body: The compressed body.
        encoding: A key of `_ENCODINGS`.
        limits: Bounds of a request.

    Raises:
        InvalidRequestError: MESSAGE_TOO_LARGE or COMPRESSION_RATIO_TOO_HIGH, before more than the limit is made.
        zlib.error: It is damaged.
        ValueError: It is cut short, or followed by other bytes.
    """
    most = min(limits.max_message_bytes, max(_RATIO_FREE_BYTES, len(body) * _MAX_RATIO))
    try:
        found, rest, complete = _inflate(body, _ENCODINGS[encoding], most + 1)
    except zlib.error:
        if encoding != "deflate":
            raise
        found, rest, complete = _inflate(body, -zlib.MAX_WBITS, most + 1)  # as some clients send it
    if len(found) > most:
        limits.check_message(len(found))
        raise InvalidRequestError(
            "COMPRESSION_RATIO_TOO_HIGH",
            f"The body has more than {_MAX_RATIO} bytes for each compressed byte. Send it without compression.",
            field="",
            limit=_MAX_RATIO,
        )
    if not complete or rest:
        raise ValueError("the compressed body is cut short, or more than one")
    return found


def _inflate(body: bytes, window_bits: int, most: int) -> tuple[bytes, bytes, bool]:
    inflater = zlib.decompressobj(window_bits)
    return inflater.decompress(body, most), inflater.unused_data, inflater.eof


def _encoding_of(request: web.Request) -> str:
    """Reads the content encoding, "" for none.

    Raises:
        InvalidRequestError: CONTENT_ENCODING_UNSUPPORTED.
    """
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return ""
    if encoding not in _ENCODINGS:
        raise InvalidRequestError(
            "CONTENT_ENCODING_UNSUPPORTED",
            f"Content-Encoding: {encoding[:40]!r} is not understood. Use gzip or deflate, or none.",
            field="",
        )
    return encoding


async def _decompress(body: bytes, encoding: str, limits: RequestLimits) -> bytes:
    return await asyncio.to_thread(decompress, body, encoding, limits) if body else body


async def _read_form(request: web.Request, content: StreamReader, limits: RequestLimits) -> Upload:
    images: list[bytes] = []
    names: list[str] = []
    form = MultipartReader(request.headers, content)
    while (part := await form.next()) is not None:
        name = part.name if isinstance(part, BodyPartReader) else None
        if not isinstance(part, BodyPartReader) or not _is_file(part):
            raise InvalidRequestError(
                "FORM_FIELD_UNKNOWN",
                f"The form's field {(name or '')[:40]!r} is no file. Options go into the query string.",
                field=(name or "")[:40],
            )
        limits.check_image_count(len(images) + 1)
        images.append(await _read_part(part, content, limits))
        names.append((part.filename or name or "")[:255])
    limits.check_image_count(len(images))
    return Upload(images, names)


def _is_file(part: BodyPartReader) -> bool:
    kind = part.headers.get("Content-Type", "").lower()
    return part.filename is not None or kind.startswith(("image/", "application/octet-stream"))


async def _read_part(part: BodyPartReader, content: StreamReader, limits: RequestLimits) -> bytes:
    chunks: list[bytes] = []
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        chunks.append(chunk)
        limits.check_message(content.total_bytes)
    return b"".join(chunks)
