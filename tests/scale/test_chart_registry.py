"""Tests that the Helm chart goes through a registry and comes out as it went in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "ferserve"

pytestmark = pytest.mark.skipif(
    not shutil.which("helm") or not shutil.which("docker-registry"),
    reason="needs `make test-scale`, which fetches both",
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """HOST:PORT of a registry on loopback that keeps what it gets in a folder."""
    configuration = tmp_path / "registry.yaml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    configuration.write_text(yaml.safe_dump({"version": 0.1, "storage": storage, "http": {"addr": "127.0.0.1:0"}}))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(configuration)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
            break
    else:
        pytest.fail("".join(seen))
    # The pipe must not fill.
    reader = threading.Thread(target=process.stderr.read)
    reader.start()
    yield found[1]
    process.terminate()
    process.wait(20)
    reader.join()
    process.stderr.close()


@pytest.fixture
def helm(tmp_path: Path) -> Callable[..., str]:
    """Runs helm with folders of its own, and returns what it writes."""
    folders = {f"HELM_{name}_HOME": str(tmp_path / name) for name in ("CONFIG", "CACHE", "DATA")}

    def run(*arguments: object) -> str:
        command = ["helm", *map(str, arguments)]
        done = subprocess.run(
            command, env={**os.environ, **folders}, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def test_the_chart_is_pushed_and_pulled_and_renders_the_same(
    registry: str, helm: Callable[..., str], tmp_path: Path
) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    helm("package", CHART, "--destination", tmp_path)
    archive = tmp_path / f"ferserve-{version}.tgz"
    pushed = helm("push", archive, f"oci://{registry}/charts", "--plain-http")
    digest = re.search(r"Digest: (sha256:[0-9a-f]{64})", pushed)
    assert digest, pushed

    pulled = tmp_path / "pulled"
    pulled.mkdir()
    reference = f"oci://{registry}/charts/ferserve"
    pulled_text = helm("pull", reference, "--version", version, "--destination", pulled, "--plain-http")
    assert digest[1] in pulled_text
    assert (pulled / archive.name).read_bytes() == archive.read_bytes()

    rendered = helm(
        "template", "demo", reference, "--version", version, "--plain-http", "--set", "grpcRoute.enabled=true"
    )
    direct = helm("template", "demo", CHART, "--set", "grpcRoute.enabled=true")
    kinds = [each["kind"] for each in yaml.safe_load_all(_documents(rendered)) if each]
    assert _documents(rendered) == _documents(direct)
    assert "GRPCRoute" in kinds


def _documents(output: str) -> str:
    """The manifests of what helm has written, without what it says of a download."""
    return output[output.index("---\n") :].partition("\nPulled:")[0].rstrip()
