"""Signs published versions, in the format of OpenSSF Model Signing 1.0, method `key`.

The signature is a Sigstore bundle, `model.sig` in the version's folder: a DSSE envelope around an in-toto
statement that lists the files with their SHA-256. Format: https://github.com/ossf/model-signing-spec. A server
verifies it if it has the public key (`--model-key`), and so does `model_signing verify key`.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import TrainingError
from ferserve_training.export.manifest import MANIFEST_PATH, digest_files

SIGNATURE_PATH: Final = "model.sig"
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_EXCLUDED: Final = (".git", ".gitattributes", ".github", ".gitignore", SIGNATURE_PATH)
"""Paths that the format leaves out of every signature, and the signature itself."""

_HASHES: Final[dict[str, type[HashAlgorithm]]] = {"secp256r1": SHA256, "secp384r1": SHA384, "secp521r1": SHA512}
"""Hash of ECDSA by curve, as the format's registry of algorithms has it."""


def read_private_key(path: Path, passphrase: str | None) -> EllipticCurvePrivateKey:
    """Read a private key in PEM, on curve P-256, P-384 or P-521.

    Args:
        path: Its file.
        passphrase: Of an encrypted key; None for another.

    Raises:
        TrainingError: It cannot be read, or is another kind of key, or the passphrase is missing or wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror})") from error
    is_encrypted = b"ENCRYPTED" in content
    if is_encrypted and not passphrase:
        raise TrainingError(f"{path}: is encrypted; put its passphrase into FERSERVE_SIGNING_PASSPHRASE")
    try:
        key = load_pem_private_key(content, passphrase.encode() if is_encrypted and passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        text = "the passphrase is wrong, or it is no private key" if is_encrypted else "is no private key"
        raise TrainingError(f"{path}: {text} in PEM") from error
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise TrainingError(f"{path}: is not a key on the curve P-256, P-384 or P-521")
    return key


def sign_version(folder: Path, key: EllipticCurvePrivateKey) -> Path:
    """Sign a version's files as they are, and write the signature beside them.

    Args:
        folder: Of the version.
        key: Of the signer.

    Returns:
        The file of the signature. An older one is replaced.

    Raises:
        TrainingError: The folder holds no version, a file is not that of the manifest, or nothing can be written.
    """
    try:
        manifest = (folder / MANIFEST_PATH).read_bytes()
        listed: dict[str, str] = dict(json.loads(manifest)["files"])
        sums = digest_files(folder)
    except FileNotFoundError:
        raise TrainingError(f"{folder}: holds no exported version") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder}: cannot be read ({error})") from error
    sums = {name: digest for name, digest in sums.items() if name.split("/")[0] not in _EXCLUDED}
    for name in sorted(sums.keys() | listed.keys()):
        if sums.get(name) != listed.get(name):
            raise TrainingError(
                f"{folder}: {name} is not the file that the manifest names; sign a version as it was exported"
            )
    statement = statement_of(folder.resolve().name, {**sums, MANIFEST_PATH: hashlib.sha256(manifest).hexdigest()})
    signature = folder / SIGNATURE_PATH
    try:
        write_atomically(signature, json.dumps(bundle_of(statement, key), indent=2).encode() + b"\n")
    except OSError as error:
        raise TrainingError(f"{signature}: cannot be written ({error.strerror})") from error
    return signature


def statement_of(name: str, sums: dict[str, str]) -> dict[str, Any]:
    """Put the in-toto statement about a version's files together, ready for JSON.

    Args:
        name: Of the folder, for people.
        sums: SHA-256 of every file, in hex, by POSIX path.
    """
    resources = [{"name": path, "digest": sums[path], "algorithm": "sha256"} for path in sorted(sums)]
    root = hashlib.sha256(b"".join(bytes.fromhex(each["digest"]) for each in resources)).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": resources,
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                # Stores put links in place of files, whose content is what was signed.
                "allow_symlinks": True,
                "ignore_paths": list(_EXCLUDED),
            },
        },
    }


def bundle_of(statement: dict[str, Any], key: EllipticCurvePrivateKey) -> dict[str, Any]:
    """Sign a statement, and put the Sigstore bundle together, ready for JSON."""
    payload = json.dumps(statement).encode()
    # The pre-authentication encoding of DSSE: type and payload, each with its length.
    signed = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    signature = key.sign(signed, ECDSA(_HASHES[key.curve.name]()))
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": _hint(key.public_key())}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def _hint(key: EllipticCurvePublicKey) -> str:
    """Compute the SHA-256 of a public key's PEM, by which bundles name it."""
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
