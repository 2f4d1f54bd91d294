"""Stores augmented views of a data set with the teachers' answers, round by round, checked by hash.

A student that reads a bank sees the very crop that its teachers answered for, and the teachers cost nothing per
epoch ("patient and consistent teacher", Beyer et al. 2021, https://arxiv.org/abs/2106.05237). A round holds one
view of every training face:

    bank.json                    settings and the SHA-256 of every finished round
    round-0000.npz               images        uint8   [N, 48, 48, 1]
                                 probabilities float32 [N, 7], mean over teachers, and over mirror images if asked
                                 mates         int32   [N], face that was mixed in
                                 shares        float32 [N], weight of the face itself; 1 where nothing was mixed in
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import RunError

_SETTINGS_NAME: Final = "bank.json"
_FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class BankSettings:
    """Decides what a bank holds; a bank is continued only under the settings that it was started with.

    Attributes:
        recipe: Whose augmentation draws the views, with what was changed in it.
        seed: Of all draws.
        data_sha256: Digest of the data set.
        face_count: Training faces, and so views a round.
        mixed_share: Share of the views that are two faces, blended or one pasted into the other, 0 to 1.
        mirrors: Whether the teachers' answers for the mirror image count too.
        teachers: Their names with a digest each.
    """

    recipe: str
    seed: int
    data_sha256: str
    face_count: int
    mixed_share: float
    mirrors: bool
    teachers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BankRound:
    """Holds one view of every training face; arrays as the module's docstring lists them."""

    images: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]
    mates: npt.NDArray[np.int32]
    shares: npt.NDArray[np.float32]

    def mix(self, targets: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Blend the targets of the faces, float32 [N, any], as the faces of each view were blended."""
        share = self.shares[:, np.newaxis]
        return np.asarray(share * targets + (1.0 - share) * targets[self.mates], np.float32)


class ViewBank:
    """Reads and extends the folder of one bank. Not thread-safe.

    Args:
        folder: Of the bank.
        settings: Of the bank.
        digests: SHA-256 of each finished round.
    """

    def __init__(self, folder: Path, settings: BankSettings, digests: tuple[str, ...]) -> None:
        self.folder = folder
        self.settings = settings
        self._digests = digests

    @property
    def round_count(self) -> int:
        """Number of finished rounds."""
        return len(self._digests)

    def sha256(self) -> str:
        """Compute the digest of settings and rounds, which names the bank in a run's records."""
        return hashlib.sha256(self._document()).hexdigest()

    def first(self, round_count: int) -> "ViewBank":
        """Give the bank of the first rounds alone; a run keeps to those that it began with."""
        return ViewBank(self.folder, self.settings, self._digests[:round_count])

    def read(self, index: int) -> BankRound:
        """Read a round.

        Args:
            index: From 0; below `round_count`.

        Raises:
            RunError: The file is missing, damaged, or not the one that was written.
        """
        path = self._path(index)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != self._digests[index]:
            raise RunError(f"{path}: has been changed since it was written; make the bank again")
        with np.load(io.BytesIO(content)) as arrays:
            return BankRound(arrays["images"], arrays["probabilities"], arrays["mates"], arrays["shares"])

    def extend(self, round_count: int, make: Callable[[int], BankRound], on_round: Callable[[int], None]) -> None:
        """Make the rounds that are missing, each written whole before the next begins.

        Args:
            round_count: Rounds that the bank shall have in the end; finished ones are kept.
            make: Makes a round from its index.
            on_round: Called with the number of finished rounds after each.

        Raises:
            RunError: The folder cannot be written.
        """
        try:
            for index in range(self.round_count, round_count):
                made = make(index)
                buffer = io.BytesIO()
                arrays: dict[str, Any] = {name: getattr(made, name) for name in BankRound.__slots__}
                np.savez(buffer, **arrays)
                write_atomically(self._path(index), buffer.getvalue())
                self._digests = (*self._digests, hashlib.sha256(buffer.getvalue()).hexdigest())
                write_atomically(self.folder / _SETTINGS_NAME, self._document())
                on_round(self.round_count)
        except OSError as error:
            raise RunError(f"{self.folder}: cannot be written ({error.strerror})") from error

    def _path(self, index: int) -> Path:
        return self.folder / f"round-{index:04d}.npz"

    def _document(self) -> bytes:
        content = {"format_version": _FORMAT_VERSION, **asdict(self.settings), "rounds": self._digests}
        return json.dumps(content, indent=2).encode() + b"\n"


def open_bank(folder: Path) -> ViewBank:
    """Open a finished or a half-made bank.

    Raises:
        RunError: The folder holds none, or one that cannot be read.
    """
    path = folder / _SETTINGS_NAME
    try:
        content = json.loads(path.read_text("utf-8"))
        if content.pop("format_version") != _FORMAT_VERSION:
            raise RunError(f"{path}: was made by another version of ferserve-train; make the bank again")
        digests = tuple(str(each) for each in content.pop("rounds"))
        settings = BankSettings(**content)
        return ViewBank(folder, replace(settings, teachers=tuple(settings.teachers)), digests)
    except FileNotFoundError:
        raise RunError(f"{folder}: holds no bank; make one with 'ferserve-train bank'") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error


def start_bank(folder: Path, settings: BankSettings) -> ViewBank:
    """Open the bank of a folder to extend it, or begin one there.

    Raises:
        RunError: The folder holds a bank of other settings, which are named; or it cannot be made.
    """
    if (folder / _SETTINGS_NAME).exists():
        bank = open_bank(folder)
        for name, wanted in asdict(settings).items():
            kept = getattr(bank.settings, name)
            if kept != wanted:
                raise RunError(f"{folder}: its {name} is {kept}, not {wanted}; name another folder")
        return bank
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror})") from error
    return ViewBank(folder, settings, ())
