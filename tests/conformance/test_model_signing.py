"""Tests that signatures of versions agree with the reference implementation of OpenSSF Model Signing."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from ferserve_server.models.manifest import read_manifest
from ferserve_server.models.signature import SignatureVerifier
from ferserve_training.export.sign import read_private_key, sign_version
from support.conformance import environment
from support.fake_models import publish_fake
from support.signing_keys import make_key

if TYPE_CHECKING:
    from pathlib import Path


def model_signing(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs its command."""
    command = environment("model-signing") / "bin" / "model_signing"
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish_fake(tmp_path / "repository")


def test_it_verifies_what_we_sign(tmp_path: Path, version: Path) -> None:
    private, public = make_key(tmp_path)
    signature = sign_version(version, read_private_key(private, None))
    verified = ("verify", "key", version, "--signature", signature, "--public_key", public)
    done = model_signing(*verified)
    assert done.returncode == 0, done.stderr
    (version / "saved_model.pb").write_bytes(b"another")
    assert model_signing(*verified).returncode != 0


def test_we_verify_what_it_signs(tmp_path: Path, version: Path) -> None:
    private, public = make_key(tmp_path)
    done = model_signing("sign", "key", version, "--private_key", private, "--signature", version / "model.sig")
    assert done.returncode == 0, done.stderr
    SignatureVerifier([public]).verify(version, read_manifest(version))
