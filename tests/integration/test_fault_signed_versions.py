"""Tests signing and serving as people do it: openssl, ferserve-train, ferserve-server (faults, item 29)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ferserve_client import EmotionClient
from support.fake_models import publish_fake
from support.server_process import run_fake_server

if TYPE_CHECKING:
    from support.server_process import ServerProcess

TRAIN = Path(sys.executable).parent / "ferserve-train"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with `signer.key`, encrypted, and `signer.pub`, made by the commands of docs/training.md."""
    curve = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"
    for command in (
        f"openssl genpkey {curve} -aes-256-cbc -pass pass:open -out signer.key",
        "openssl pkey -in signer.key -passin pass:open -pubout -out signer.pub",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def _sign(version: Path, keys: Path, passphrase: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TRAIN, "sign", version, "--key", keys / "signer.key"],
        env=os.environ | {"FERSERVE_SIGNING_PASSPHRASE": passphrase},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _reasons(server: ServerProcess) -> dict[int, str]:
    with EmotionClient(server.address) as client:
        (model,) = client.models()
    return {each.version: each.error.reason if each.error else each.state.value for each in model.versions}


def test_a_release_is_signed_and_a_server_takes_nothing_else(tmp_path: Path, keys: Path) -> None:
    repository = tmp_path / "repository"
    first = publish_fake(repository)
    done = _sign(first, keys, "open")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"signed {first / 'model.sig'}\n"
    with run_fake_server(
        repository, "--model-key", str(keys / "signer.pub"), "--versions-per-model", "2"
    ) as server:
        second = publish_fake(repository, version=2)
        server.wait_until(lambda: _reasons(server).get(2) == "SIGNATURE_MISSING", "rejects the unsigned version")
        assert _reasons(server)[1] == "ready"
        assert _sign(second, keys, "open").returncode == 0
        server.wait_until(lambda: _reasons(server)[2] == "ready", "takes the version once it is signed")


def test_a_wrong_passphrase_and_a_private_key_at_the_server_are_named(tmp_path: Path, keys: Path) -> None:
    version = publish_fake(tmp_path / "repository")
    done = _sign(version, keys, "wrong")
    assert (done.returncode, "passphrase is wrong" in done.stderr) == (1, True)
    assert not (version / "model.sig").exists()
    with (
        pytest.raises(AssertionError, match=r"ended with 2 before[\s\S]*private key"),
        run_fake_server(tmp_path / "repository", "--model-key", str(keys / "signer.key")),
    ):
        pass
