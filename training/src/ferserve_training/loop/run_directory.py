"""Reads and writes the folder of a run, each file whole.

`run.json` holds the settings, `checkpoint.npz` weights and history, `epochs.csv` the history for other programs.
"""

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import RunError
from ferserve_training.loop.records import Checkpoint, EpochRecord, RunSettings

_HISTORY_KEY: Final = "history.json"


class RunDirectory:
    """Reads and writes the folder of one run.

    Args:
        path: The folder; made by `create`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._settings_path = path / "run.json"
        self._checkpoint_path = path / "checkpoint.npz"
        self._log_path = path / "epochs.csv"

    def create(self, settings: RunSettings) -> None:
        """Start a run.

        Raises:
            RunError: The folder already holds one, or cannot be made.
        """
        if self._settings_path.exists():
            raise RunError(f"{self.path}: already holds a run; add --resume, or name another --run-dir")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self._settings_path, json.dumps(asdict(settings), indent=2).encode() + b"\n")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror})") from error

    def settings(self) -> RunSettings:
        """Read the settings.

        Raises:
            RunError: The folder holds no run, or one that this version cannot read.
        """
        try:
            content = json.loads(self._settings_path.read_text("utf-8"))
            lists = {name: tuple(content.get(name, ())) for name in ("overrides", "teachers", "blends")}
            return RunSettings(**content | lists)
        except FileNotFoundError:
            raise RunError(f"{self.path}: holds no run") from None
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{self._settings_path}: cannot be read ({error})") from error

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint and the log."""
        history = json.dumps([asdict(record) for record in checkpoint.history])
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {**checkpoint.state, _HISTORY_KEY: np.asarray(history)}
        np.savez(buffer, **arrays)
        write_atomically(self._checkpoint_path, buffer.getvalue())
        write_atomically(self._log_path, _log_of(checkpoint.history).encode())

    def load(self) -> Checkpoint | None:
        """Read the checkpoint; None before the end of the first epoch.

        Raises:
            RunError: It cannot be read.
        """
        if not self._checkpoint_path.exists():
            return None
        try:
            # Opened here, because NumPy leaves the file open when it turns out to be no archive.
            with self._checkpoint_path.open("rb") as file, np.load(file) as archive:
                state = {name: archive[name] for name in archive.files}
            history = json.loads(str(state.pop(_HISTORY_KEY)))
            return Checkpoint(tuple(EpochRecord(**record) for record in history), state)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise RunError(f"{self._checkpoint_path}: cannot be read ({error})") from error


def _log_of(history: Sequence[EpochRecord]) -> str:
    """Write one line an epoch; what was not measured is empty."""
    text = io.StringIO()
    log = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    log.writeheader()
    log.writerows(asdict(record) for record in history)
    return text.getvalue()
