"""Makes keys of signers, on the fly: none is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

if TYPE_CHECKING:
    from pathlib import Path


def make_key(
    folder: Path, name: str = "signer", *, curve: ec.EllipticCurve | None = None, passphrase: str = ""
) -> tuple[Path, Path]:
    """Writes a private and a public key in PEM, and returns their paths."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public
