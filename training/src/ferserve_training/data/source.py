"""The files of a data set, be it an archive or a folder."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ferserve_training.errors import DataError


def read_files(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield each file's path inside the source and its bytes, in the order of the paths.

    Hidden files and the folders that macOS adds to archives are left out.

    Args:
        source: A zip archive or a folder.

    Raises:
        DataError: The source is missing, no archive, or one of its files cannot be read.
    """
    if source.is_dir():
        yield from _read_folder(source)
    elif source.is_file():
        yield from _read_archive(source)
    else:
        raise DataError(source, "no such file or folder")


def list_files(source: Path) -> list[PurePosixPath]:
    """List the paths that `read_files` would yield, unread.

    Raises:
        DataError: The source is missing or no archive.
    """
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    elif source.is_file():
        try:
            with zipfile.ZipFile(source) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(source, f"is no readable zip archive ({error})") from error
    else:
        raise DataError(source, "no such file or folder")
    return [path for path in map(PurePosixPath, sorted(names)) if _is_wanted(path)]


def _read_folder(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    for path in paths:
        inner = PurePosixPath(path.relative_to(source).as_posix())
        if _is_wanted(inner):
            try:
                yield inner, path.read_bytes()
            except OSError as error:
                raise DataError(path, f"cannot be read ({error.strerror})") from error


def _read_archive(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        with zipfile.ZipFile(source) as archive:
            for name in sorted(archive.namelist()):
                inner = PurePosixPath(name)
                if not name.endswith("/") and _is_wanted(inner):
                    yield inner, _read_member(source, archive, name)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(source, f"is no readable zip archive ({error})") from error


def _read_member(source: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{source}/{name}", f"cannot be unpacked ({error})") from error


def _is_wanted(path: PurePosixPath) -> bool:
    return "__MACOSX" not in path.parts and not any(part.startswith(".") for part in path.parts)
