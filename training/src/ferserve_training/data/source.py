"""Reads the files of a data set, be it a folder, a zip archive or a tar archive."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from ferserve_training.errors import DataError

_LITTER: Final = frozenset({"thumbs.db", "desktop.ini"})
"""Files that Windows puts into folders of pictures."""
_TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def read_files(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield each file's path inside the source and its bytes, in the order of the paths.

    Hidden files, what Windows and macOS add, and links inside of archives are left out. Linked folders and files
    of a folder are followed, each real folder once on a path.

    Args:
        source: A folder, or a zip or tar archive.

    Raises:
        DataError: The source is missing, no archive, or one of its files cannot be read.
    """
    if source.is_dir():
        for name, path in sorted(_walk(source)):
            try:
                yield PurePosixPath(name), path.read_bytes()
            except OSError as error:
                raise DataError(path, f"cannot be read ({error.strerror})") from error
    elif not source.is_file():
        raise DataError(source, "no such file or folder")
    elif source.name.lower().endswith(_TAR_SUFFIXES):
        yield from _read_tar(source)
    else:
        yield from _read_zip(source)


def list_files(source: Path) -> list[PurePosixPath]:
    """List the paths that `read_files` would yield, unread.

    Raises:
        DataError: The source is missing or no archive.
    """
    if source.is_dir():
        return [PurePosixPath(name) for name, _ in sorted(_walk(source))]
    if not source.is_file():
        raise DataError(source, "no such file or folder")
    if source.name.lower().endswith(_TAR_SUFFIXES):
        with _open_tar(source) as archive:
            return [path for path, _ in _tar_members(source, archive)]
    with _open_zip(source) as zipped:
        return [path for path, _ in _zip_members(zipped)]


def _walk(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield the wanted files of a folder by their names inside it; links to a folder above are not followed."""
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(source, (source.resolve(),))]
    while waiting:
        folder, above = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise DataError(folder, f"cannot be read ({error.strerror})") from error
        for entry in entries:
            path = Path(entry.path)
            if not _is_wanted(PurePosixPath(entry.name)):
                continue
            if entry.is_dir():
                real = path.resolve()
                if real not in above:
                    waiting.append((path, (*above, real)))
            elif entry.is_file():
                yield path.relative_to(source).as_posix(), path


def _open_zip(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(source, f"is no readable zip archive ({error})") from error


def _zip_members(archive: zipfile.ZipFile) -> list[tuple[PurePosixPath, str]]:
    """List the wanted members by path; archives of PowerShell have backslashes in their names."""
    names = [(name.replace("\\", "/"), name) for name in archive.namelist()]
    members = [(PurePosixPath(path), name) for path, name in sorted(names) if not path.endswith("/")]
    return [(path, name) for path, name in members if _is_wanted(path)]


def _read_zip(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with _open_zip(source) as archive:
        for path, name in _zip_members(archive):
            try:
                content = archive.read(name)
            except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError) as error:
                raise DataError(f"{source}/{name}", f"cannot be unpacked ({error})") from error
            yield path, content


def _open_tar(source: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(source)  # closed by the caller
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(source, f"is no readable tar archive ({error})") from error


def _tar_members(source: Path, archive: tarfile.TarFile) -> list[tuple[PurePosixPath, tarfile.TarInfo]]:
    try:
        members = [(PurePosixPath(member.name), member) for member in archive.getmembers() if member.isfile()]
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(source, f"is no readable tar archive ({error})") from error
    return sorted(
        ((path, member) for path, member in members if _is_wanted(path)), key=lambda pair: pair[0].as_posix()
    )


def _read_tar(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with _open_tar(source) as archive:
        for path, member in _tar_members(source, archive):
            try:
                file = archive.extractfile(member)
                content = b"" if file is None else file.read()
            except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
                raise DataError(f"{source}/{path}", f"cannot be unpacked ({error})") from error
            yield path, content


def _is_wanted(path: PurePosixPath) -> bool:
    if "__MACOSX" in path.parts or path.name.lower() in _LITTER:
        return False
    return not any(part.startswith(".") and part not in (".", "..") for part in path.parts)
