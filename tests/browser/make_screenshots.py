"""Makes the screenshots of the page for the docs: make_screenshots.py OUTPUT-FOLDER."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.page_media import write_camera  # noqa: E402 - the tests are no package
from support.pictures import ASTRONAUT  # noqa: E402 - as above
from support.server_process import run_server  # noqa: E402 - as above


def main() -> None:
    """Serves the bundled models, and has Chromium take the pictures."""
    output = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        write_camera(Path(folder) / "camera.y4m", 4)
        with run_server(ROOT / "model_repo", "--default-model", "fer-small") as server:
            command = ["node", "screenshots.mjs", server.http_url, folder, str(ASTRONAUT), str(output)]
            subprocess.run(command, cwd=HERE, check=True)


if __name__ == "__main__":
    main()
