"""Runs proxies in front of a server, set up as docs/compat.md says."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final

import pytest

from support.conformance import ROOT
from support.prometheus import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROXIES: Final = ("nginx", "haproxy")
START_S: Final = 20.0

_NGINX: Final = """
daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
access_log off;
client_body_temp_path body;
{block}
}}
"""


@contextlib.contextmanager
def proxied(name: str, address: str, http_url: str, folder: Path) -> Iterator[str]:
    """Runs a proxy until the block is left, and yields its HOST:PORT. Skips the test where there is none.

    Args:
        name: One of `PROXIES`.
        address: Where it sends calls to.
        http_url: Where it asks over HTTP whether the server can take them.
        folder: A folder of its own.
    """
    program = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.skip(f"there is no {name} here")
    port = free_port()
    block = _documented(name).replace("127.0.0.1:9000", f"127.0.0.1:{port}").replace("127.0.0.1:50051", address)
    block = block.replace("port 8080", f"port {http_url.rpartition(':')[2]}")
    settings = folder / f"{name}.conf"
    settings.write_text(_NGINX.format(block=block) if name == "nginx" else block)
    command = [program, "-c", settings, "-p", folder] if name == "nginx" else [program, "-f", settings]
    log = folder / "log"
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _wait_for(port, process, log)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _documented(language: str) -> str:
    """The block of docs/compat.md in that language."""
    (block,) = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "docs/compat.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return str(block)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        time.sleep(0.05)
