"""Reads the golden set of a version, within bounds checked before anything is unpacked."""

from __future__ import annotations

import math
import zipfile
from typing import TYPE_CHECKING, Final
from zlib import error as zlib_error

import numpy as np
from numpy.lib import format as npy_format

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import GoldenSet
from ferserve_server.models.manifest import GOLDEN_PATH

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    from ferserve_server.domain.servable import InputSpec

_MAX_ARRAY_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of an unpacked array, in bytes: 29,000 faces of 48x48, where some hundred are usual. A file
of 2.7 MB can unpack to a thousand times as much."""

MAX_GOLDEN_FACES: Final = 65_536
"""Maximum number of golden faces."""

_MAX_MEMBERS: Final = 16
"""Maximum number of arrays in the file; two are read."""


def check_golden_file(directory: Path) -> None:
    """Checks that the golden set of the version in `directory` is there and stays within bounds; unpacks nothing.

    Raises:
        ModelRejectedError: GOLDEN_MISSING or GOLDEN_INVALID.
        OSError: The file cannot be read now.
    """
    with _opened(directory) as archive:
        _check_sizes(archive)


def read_golden(directory: Path, spec: InputSpec) -> GoldenSet:
    """Reads the golden set of the version in `directory`: `faces` and `probabilities` of its golden.npz.

    Raises:
        ModelRejectedError: GOLDEN_MISSING or GOLDEN_INVALID.
        OSError: The file cannot be read now.
    """
    with _opened(directory) as archive:
        _check_sizes(archive)
        try:
            faces, expected = _read_array(archive, "faces"), _read_array(archive, "probabilities")
        except (EOFError, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError) as error:
            raise _invalid("cannot be read") from error
        except (zipfile.BadZipFile, zlib_error) as error:
            raise _invalid("cannot be unpacked") from error
    if (
        faces.dtype != np.uint8
        or faces.shape[1:] != (spec.height, spec.width, 1)
        or not 0 < len(faces) <= MAX_GOLDEN_FACES
    ):
        raise _invalid("holds no faces of the model's size")
    if expected.dtype.kind != "f":
        raise _invalid("holds no probabilities")
    return GoldenSet(faces, expected)


def _invalid(why: str) -> ModelRejectedError:
    return ModelRejectedError("GOLDEN_INVALID", f"{GOLDEN_PATH} {why}.")


def _opened(directory: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(directory / GOLDEN_PATH)
    except FileNotFoundError:
        raise ModelRejectedError("GOLDEN_MISSING", f"There is no {GOLDEN_PATH}.") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise _invalid("cannot be read") from error


def _check_sizes(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS or any(each.file_size > _MAX_ARRAY_BYTES for each in members):
        raise _invalid(
            f"is too large: {_MAX_MEMBERS} arrays of {_MAX_ARRAY_BYTES >> 20} MiB each, unpacked, are the most"
        )


def _read_array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """Reads an array whose header is checked before memory is taken for its content.

    Raises:
        ValueError: It is too large, holds Python objects, or is shorter than its header says.
        KeyError: No array has that name.
    """
    with archive.open(f"{name}.npy") as stream:
        version = npy_format.read_magic(stream)
        if version == (1, 0):
            shape, fortran_order, dtype = npy_format.read_array_header_1_0(stream)
        else:
            shape, fortran_order, dtype = npy_format.read_array_header_2_0(stream)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or fortran_order or not 0 <= size <= _MAX_ARRAY_BYTES:
            raise ValueError(f"{name} cannot be used: {shape} of {dtype}")
        content = stream.read(size)  # no more than that is unpacked, whatever follows
    return np.frombuffer(content, dtype).reshape(shape)
