"""Issues certificates by an authority of the tests' own."""

from __future__ import annotations

import subprocess
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def _openssl(folder: Path, *args: str) -> None:
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True, timeout=60)


def make_certificates(folder: Path, names: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Writes `ca.pem`, and `server` and `client` with `.pem` and `.key`, signed by it; returns the folder.

    `names` has further certificates, by their alternative names in the form of openssl.
    """
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    local = "DNS:localhost,IP:127.0.0.1"
    for name, alternatives in {"server": local, "client": local, **names}.items():
        (folder / "names").write_text(f"subjectAltName={alternatives}")
        _openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2", "-extfile", "names"]
        _openssl(folder, "x509", *signed, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
    return folder


def encrypt_key(path: Path) -> None:
    """Encrypts a private key in place."""
    _openssl(path.parent, "pkey", "-in", path.name, "-out", "encrypted.key", "-aes256", "-passout", "pass:secret")
    (path.parent / "encrypted.key").replace(path)
