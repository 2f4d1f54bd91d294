"""Reads the body of a request, and no more of it than the limits allow."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from ferserve_server.domain.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ferserve_server.services.limits import RequestLimits

_CHUNK_BYTES: Final = 256 * 1024

_PICTURE_TYPES: Final = ("image/", "application/octet-stream", "application/x-www-form-urlencoded")
"""The last is what `curl --data-binary` says of any file, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The pictures of a request.

    Attributes:
        images: The encoded pictures, 1 or more.
        names: The files' names as the caller told them, one per picture; None if the body itself is the picture.
    """

    images: list[bytes]
    names: list[str] | None


class BodyReader:
    """Reads bodies of requests. Stateless.

    Args of the constructor:
        limits: Bounds of a request.
        timeout_s: A body must arrive within this many seconds: who sends slower holds memory, and a drain, up.
    """

    def __init__(self, limits: RequestLimits, timeout_s: float) -> None:
        self._limits = limits
        self._timeout_s = timeout_s

    async def whole(self, request: web.Request) -> bytes:
        """Reads a body as it is.

        Raises:
            LimitExceededError: MESSAGE_TOO_LARGE, as soon as it is known.
            InvalidRequestError: BODY_INVALID or BODY_TOO_SLOW.
        """
        async with self._reading(request):
            return await _read_all(request, self._limits)

    async def pictures(self, request: web.Request) -> Upload:
        """Reads the picture that the body is, or the files of a form.

        Raises:
            LimitExceededError: MESSAGE_TOO_LARGE or TOO_MANY_IMAGES, as soon as it is known.
            InvalidRequestError: CONTENT_TYPE_UNSUPPORTED, IMAGES_REQUIRED, FORM_FIELD_UNKNOWN, BODY_INVALID or
                BODY_TOO_SLOW.
        """
        kind = request.content_type.lower()  # "application/octet-stream" if none is given
        async with self._reading(request):
            if kind == "multipart/form-data":
                return await _read_form(request, self._limits)
            if not kind.startswith(_PICTURE_TYPES):
                raise InvalidRequestError(
                    "CONTENT_TYPE_UNSUPPORTED",
                    f"A body of {kind[:60]!r} is not understood. Send a picture as image/*, "
                    "or files as multipart/form-data.",
                    field="",
                )
            body = await _read_all(request, self._limits)
            self._limits.check_image_count(1 if body else 0)
            return Upload([body], None)

    @contextlib.asynccontextmanager
    async def _reading(self, request: web.Request) -> AsyncIterator[None]:
        self._limits.check_message(request.content_length or 0)
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError:
            raise InvalidRequestError(
                "BODY_TOO_SLOW",
                f"The body did not arrive within {self._timeout_s:g} s (setting http_body_timeout_s).",
                field="",
            ) from None
        # What the library raises of bodies that are not what their headers say.
        except (ValueError, AssertionError, RuntimeError, HttpProcessingError, web.RequestPayloadError) as error:
            raise InvalidRequestError(
                "BODY_INVALID", "The body is not what its headers say: it cannot be taken apart.", field=""
            ) from error


async def _read_all(request: web.Request, limits: RequestLimits) -> bytes:
    chunks: list[bytes] = []
    while chunk := await request.content.readany():
        chunks.append(chunk)
        limits.check_message(request.content.total_bytes)
    return b"".join(chunks)


async def _read_form(request: web.Request, limits: RequestLimits) -> Upload:
    images: list[bytes] = []
    names: list[str] = []
    form = MultipartReader(request.headers, request.content)
    while (part := await form.next()) is not None:
        name = part.name if isinstance(part, BodyPartReader) else None
        if not isinstance(part, BodyPartReader) or not _is_file(part):
            raise InvalidRequestError(
                "FORM_FIELD_UNKNOWN",
                f"The form's field {(name or '')[:40]!r} is no file. Options go into the query string.",
                field=(name or "")[:40],
            )
        limits.check_image_count(len(images) + 1)
        images.append(await _read_part(part, request, limits))
        names.append((part.filename or name or "")[:255])
    limits.check_image_count(len(images))
    return Upload(images, names)


def _is_file(part: BodyPartReader) -> bool:
    kind = part.headers.get("Content-Type", "").lower()
    return part.filename is not None or kind.startswith(("image/", "application/octet-stream"))


async def _read_part(part: BodyPartReader, request: web.Request, limits: RequestLimits) -> bytes:
    chunks: list[bytes] = []
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        chunks.append(chunk)
        limits.check_message(request.content.total_bytes)
    return b"".join(chunks)
