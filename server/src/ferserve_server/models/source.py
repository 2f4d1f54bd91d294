"""Scans the model folder and watches it for changes.

The repository is `<root>/<model>/<version>/`, TensorFlow Serving's layout. The watcher yields at once when
something is added to the folder, and periodically in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
import watchfiles

from ferserve_server.domain.names import MODEL_NAME, VERSION
from ferserve_server.domain.servable import ServableId, SkippedFolder
from ferserve_server.models.manifest import MANIFEST_PATH, MAX_MANIFEST_BYTES, ONNX_PATH, SAVED_MODEL_PATH

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
    from pathlib import Path


_SETTLED_S: Final = 3.0
"""Minimum age of a file, in seconds, at which its times reveal any later change, because network drives keep whole
seconds, FAT two."""

_MAX_SKIPPED: Final = 100
"""Maximum number of skipped folders that are listed, because a folder of pictures holds thousands."""

_MAX_STAMPED_FILES: Final = 10_000


@dataclass(frozen=True, slots=True)
class RepositoryScan:
    """Represents the repository at one moment.

    Attributes:
        versions: SHA-256 of the manifest of every version, in hex.
        unreadable: Models, and versions of models, that could not be read: they may be there.
        root_unreadable: True if that is so of the whole repository, which may also not be there.
        skipped: Folders that are no version, with the reason.
        root_fault: Why the repository cannot be read; "" if it can.
    """

    versions: Mapping[ServableId, str] = field(default_factory=dict)
    unreadable: frozenset[str | ServableId] = frozenset()
    root_unreadable: bool = False
    skipped: tuple[SkippedFolder, ...] = ()
    root_fault: str = ""

    def with_unreadable_of(self, before: Mapping[ServableId, str]) -> dict[ServableId, str]:
        """Returns the versions, with those of an earlier scan that cannot be read now: they are not removed."""
        kept = {
            each: manifest_sum
            for each, manifest_sum in before.items()
            if self.root_unreadable or each.name in self.unreadable or each in self.unreadable
        }
        return {**kept, **self.versions}


class RepositorySource:
    """Lists versions in the model folder. Thread-safety: any thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sums: dict[Path, tuple[tuple[int, ...], str]] = {}

    def scan(self) -> RepositoryScan:
        """Scans every folder.

        A version without a manifest is still being written, and does not count.
        """
        try:
            models = sorted(self.root.iterdir())
        except OSError as error:
            # On a drive that is not mounted the folder is missing too.
            return RepositoryScan(root_unreadable=True, root_fault=error.strerror or type(error).__name__)
        found = _Found()
        for model in models:
            if not model.name.startswith(".") and model.is_dir():
                self._scan_model(model, found)
        if not found.versions and not found.skipped and _looks_like_version(self.root):
            text = "it is a version; --model-repo is the folder above its model"
            found.skip("", "", "PATH_TOO_DEEP", text)
        return RepositoryScan(found.versions, frozenset(found.unreadable), skipped=tuple(found.skipped))

    def directory(self, servable_id: ServableId) -> Path:
        """Returns the folder of a version."""
        return self.root / servable_id.name / str(servable_id.version)

    def files_stamp(self, servable_id: ServableId) -> str:
        """Returns a digest of the names, sizes and times of a version's files: it differs while one is copied."""
        digest, count = hashlib.sha256(), 0
        for folder, folders, files in os.walk(self.directory(servable_id)):
            folders.sort()
            for name in sorted(files):
                count += 1
                if count > _MAX_STAMPED_FILES:
                    return digest.hexdigest()
                try:
                    facts = os.stat(f"{folder}/{name}")  # noqa: PTH116 - no Path for each of thousands
                except OSError:
                    facts = None
                stamp = (facts.st_size, facts.st_mtime_ns, facts.st_ino) if facts else ()
                digest.update(f"{folder}/{name}{stamp}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _scan_model(self, model: Path, found: _Found) -> None:
        if not MODEL_NAME.fullmatch(model.name):
            text = "a model is called 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-', with no dot first"
            found.skip(model.name, "", "MODEL_NAME_INVALID", text)
            return
        try:
            folders = sorted(path for path in model.iterdir() if path.is_dir())
        except OSError as error:
            found.unreadable.add(model.name)
            found.skip(model.name, "", "FOLDER_UNREADABLE", error.strerror or type(error).__name__)
            return
        if _looks_like_version(model) and VERSION.fullmatch(model.name):
            found.skip(
                model.name, "", "PATH_TOO_DEEP", "it is a version; --model-repo is the folder above its model"
            )
            return
        if _looks_like_version(model):
            text = "a version lies in it directly; move it into a folder named by its number, such as 1"
            found.skip(model.name, "", "VERSION_FOLDER_MISSING", text)
            return
        for folder in folders:
            if not folder.name.startswith("."):
                self._scan_version(model.name, folder, found)

    def _scan_version(self, model: str, folder: Path, found: _Found) -> None:
        if not VERSION.fullmatch(folder.name) and _has_versions(folder):
            text = f"it is a model; --model-repo is the folder {model} that it lies in"
            found.skip(model, folder.name, "PATH_TOO_HIGH", text)
            return
        if not VERSION.fullmatch(folder.name):
            text = "a version is a number from 1 with at most 18 digits and no leading zero"
            found.skip(model, folder.name, "VERSION_NAME_INVALID", text)
            return
        servable_id = ServableId(model, int(folder.name))
        try:
            found.versions[servable_id] = self._manifest_sum(folder / MANIFEST_PATH)
        except FileNotFoundError:
            if _looks_like_version(folder):
                text = f"there is no {MANIFEST_PATH}; publish it with ferserve-train export"
                found.skip(model, folder.name, "MANIFEST_MISSING", text)
        except OSError as error:
            found.unreadable.add(servable_id)
            found.skip(model, folder.name, "MANIFEST_UNREADABLE", error.strerror or type(error).__name__)

    def _manifest_sum(self, path: Path) -> str:
        """Reads a manifest's checksum again unless its times prove that it is unchanged."""
        facts = path.stat()
        key = (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino)
        known = self._sums.get(path)
        if known is not None and known[0] == key:
            return known[1]
        with path.open("rb") as stream:
            manifest_sum = hashlib.sha256(stream.read(MAX_MANIFEST_BYTES + 1)).hexdigest()
        if time.time() - max(facts.st_mtime, facts.st_ctime) > _SETTLED_S:
            self._sums[path] = key, manifest_sum
        return manifest_sum


class _Found:
    """Collects the results of a scan."""

    def __init__(self) -> None:
        self.versions: dict[ServableId, str] = {}
        self.unreadable: set[str | ServableId] = set()
        self.skipped: list[SkippedFolder] = []

    def skip(self, model: str, folder: str, reason: str, message: str) -> None:
        """Records a folder that is not a version."""
        if len(self.skipped) < _MAX_SKIPPED:
            self.skipped.append(SkippedFolder(model, folder, reason, message))


def _has_versions(folder: Path) -> bool:
    try:
        return any(VERSION.fullmatch(each.name) and _looks_like_version(each) for each in folder.iterdir())
    except OSError:
        return False


def _looks_like_version(folder: Path) -> bool:
    try:
        return any((folder / name).is_file() for name in (MANIFEST_PATH, SAVED_MODEL_PATH, ONNX_PATH))
    except OSError:
        return False


log = structlog.get_logger(__name__)

_STEP_MS: Final = 50
"""Maximum time between changes that count as one, in milliseconds."""

_MAX_GATHERING_MS: Final = 200
"""Maximum time for which changes are gathered, in milliseconds, because a version must be seen within half a
second, also while another one is being copied."""


async def changes(
    root: Path,
    poll_interval_s: float,
    changes: Callable[[Path], AsyncIterator[object]] | None = None,
) -> AsyncGenerator[None, None]:
    """Yields whenever the folder must be scanned. Close it to stop.

    Events only make a scan come sooner: network drives and some containers' file systems have none, and scanning
    every `poll_interval_s` finds what they miss. So it goes on when watching fails, and watching begins again with
    the next scan.

    Args:
        root: The model folder, there or not.
        poll_interval_s: Maximum time between two scans, in seconds, above 0.
        changes: Yields when something in a folder changes; raises when it cannot. The default asks the operating
            system (inotify, FSEvents, ...).
    """
    changed = asyncio.Event()
    watch: asyncio.Task[None] | None = None
    warned = False
    try:
        while True:
            if watch is not None and watch.done():
                error = watch.exception()
                # A folder that does not exist yet is no fault; the next scan tries again.
                if not warned and not isinstance(error, FileNotFoundError):
                    warned = True
                    log.warning(
                        "no events of the model folder; looking at it from time to time",
                        poll_interval_s=poll_interval_s,
                        error=repr(error),
                    )
                watch = None
            if watch is None:
                watch = asyncio.ensure_future(_follow(root, changes or _system_changes, changed))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(poll_interval_s):
                    await changed.wait()
            changed.clear()
            yield
    finally:
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await watch


async def _follow(root: Path, changes: Callable[[Path], AsyncIterator[object]], changed: asyncio.Event) -> None:
    async for _ in changes(root):
        changed.set()


def _system_changes(root: Path) -> AsyncIterator[object]:
    return watchfiles.awatch(
        root, watch_filter=None, debounce=_MAX_GATHERING_MS, step=_STEP_MS, ignore_permission_denied=True
    )
