"""Runs `make train` with the environment of the tests, on a few drawn faces."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def make_train(folder: Path, data: Path) -> str:
    """Runs it; the run is `folder`/run, the model repository `folder`/models. Returns what was printed."""
    return make_train_with(
        Path(sys.executable).parent,
        *(f"DATA={data}", f"RUN_DIR={folder / 'run'}", f"MODEL_REPO={folder / 'models'}", "TRAIN_FLAGS=--smoke"),
    )


def make_train_with(commands: Path, *variables: str) -> str:
    """Runs it with the `ferserve-train` of a folder. Returns what was printed."""
    done = subprocess.run(
        ["make", "-o", "setup", "train", f"BIN={commands}", *variables],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=560,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
