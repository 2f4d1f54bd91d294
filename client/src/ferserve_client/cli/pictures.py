"""Reads picture files and sends them in requests of a sensible size."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ferserve_client.errors import (
    DeadlineExceededError,
    FerserveError,
    ResourceExhaustedError,
    ServerFailedError,
)

MAX_REQUEST_BYTES = 24 * 1024 * 1024
"""Bytes of the pictures of one request. Under the 32 MiB of a message, so that a full one still goes through."""

REQUESTS_IN_FLIGHT = 3
"""Enough that the server works on one while another travels and a third is read from disk."""

PASSING_ERRORS = (DeadlineExceededError, ResourceExhaustedError, ServerFailedError)
"""Failures of one request that the next one need not share. Any other ends the command."""

AnswerT = TypeVar("AnswerT")


PICTURE_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""Endings of pictures in folders, in lower case. Files that are named one by one may end as they like."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Holds a picture file, read or not."""

    source: str
    data: bytes = b""
    error: OSError | None = None


def expanded(paths: Iterable[Path]) -> list[Path]:
    """Replace every folder by the pictures in it and its subfolders, sorted by name; hidden ones are left out.

    Raises:
        OSError: A folder cannot be read, or there is no picture at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(pictures_in(path))
        else:
            found.append(path)
    if not found:
        raise OSError("no picture is there: files in folders must end in .jpg, .jpeg, .png or .webp")
    return found


def pictures_in(folder: Path) -> Iterator[Path]:
    """Yield the pictures in a folder and its subfolders, without hidden ones.

    Raises:
        OSError: The folder, or one in it, cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_ENDINGS:
                yield Path(parent) / name


def read_pictures(paths: Iterable[Path]) -> Iterator[Picture]:
    """Read the files, one when it is asked for. One that cannot be read has its `error` set."""
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            yield Picture(str(path), error=error)
            continue
        if len(data) > MAX_REQUEST_BYTES:
            message = f"{len(data):,} bytes are above the {MAX_REQUEST_BYTES:,} of one request"
            yield Picture(str(path), error=OSError(message))
        else:
            yield Picture(str(path), data)


def grouped(pictures: Iterable[Picture], max_count: int, max_bytes: int) -> Iterator[list[Picture]]:
    """Group pictures in order, in groups of at most so many pictures and bytes; never an empty group."""
    group: list[Picture] = []
    byte_count = 0
    for picture in pictures:
        if group and (len(group) == max_count or byte_count + len(picture.data) > max_bytes):
            yield group
            group, byte_count = [], 0
        group.append(picture)
        byte_count += len(picture.data)
    if group:
        yield group


def answers_of(
    paths: Iterable[Path],
    send: Callable[[list[bytes]], Sequence[AnswerT]],
    max_count: int,
    in_flight: int = REQUESTS_IN_FLIGHT,
) -> Iterator[tuple[Picture, AnswerT | FerserveError | OSError]]:
    """Send the pictures, several requests at a time, and yield their answers in order.

    Args:
        paths: The files.
        send: Makes one request and returns one answer per picture. Called from other threads.
        max_count: Pictures in one request.
        in_flight: Requests at once, 1 or more.

    Yields:
        The picture, and its answer or the reason for which it has none.

    Raises:
        FerserveError: A request failed in a way that the others would share.
    """
    pool = ThreadPoolExecutor(max_workers=in_flight)
    waiting: deque[tuple[list[Picture], Future[Sequence[AnswerT]] | None]] = deque()
    try:
        for group in grouped(read_pictures(paths), max_count, MAX_REQUEST_BYTES):
            data = [picture.data for picture in group if picture.error is None]
            waiting.append((group, pool.submit(send, data) if data else None))
            if len(waiting) == in_flight:
                yield from _answers_of_group(*waiting.popleft())
        while waiting:
            yield from _answers_of_group(*waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _answers_of_group(
    group: list[Picture], request: Future[Sequence[AnswerT]] | None
) -> Iterator[tuple[Picture, AnswerT | FerserveError | OSError]]:
    failure: FerserveError | None = None
    answers: Iterator[AnswerT] = iter(())
    try:
        answers = iter(request.result() if request is not None else ())
    except PASSING_ERRORS as error:
        failure = error
    for picture in group:
        yield picture, picture.error or failure or next(answers)
