"""Verifies a version's signature, in the format of OpenSSF Model Signing 1.0, method `key`.

The signature is a Sigstore bundle in `model.sig`. It holds a DSSE envelope around an in-toto statement that lists
the files of the version with their SHA-256. Format: https://github.com/ossf/model-signing-spec, DSSE:
https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from ferserve_server.domain.errors import ModelKeyError, ModelRejectedError
from ferserve_server.models.manifest import MANIFEST_PATH, SIGNATURE_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from ferserve_server.models.manifest import Manifest

_MAX_SIGNATURE_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of a signature, in bytes: four times that of a manifest, whose files it names again in Base64."""

_MEDIA_TYPES: Final = frozenset(
    {"application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3"}
)
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"

_HASHES: Final[Mapping[str, type[HashAlgorithm]]] = {
    "secp256r1": SHA256,
    "secp384r1": SHA384,
    "secp521r1": SHA512,
}
"""Hash of ECDSA by curve, as the format's registry of algorithms has it."""


def read_key(path: Path) -> EllipticCurvePublicKey:
    """Reads a public key of a signer: PEM, on curve P-256, P-384 or P-521.

    Raises:
        ModelKeyError: It cannot be read, or is another kind of key.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelKeyError(f"model_key {path} cannot be read: {error.strerror}") from error
    if b"PRIVATE KEY" in content:
        raise ModelKeyError(
            f"model_key {path} is a private key, which belongs to the signer alone; give the public one"
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ModelKeyError(f"model_key {path} is not a public key in PEM") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise ModelKeyError(f"model_key {path} is not a key on the curve P-256, P-384 or P-521")
    return key


class SignatureVerifier:
    """Verifies that versions are signed with one of several keys. Thread-safety: any thread.

    Args of the constructor:
        key_paths: Files of the public keys. They are read for each version, so that a key can be replaced while
            the server runs.

    Raises:
        ModelKeyError: From the constructor: a key cannot be used.
    """

    def __init__(self, key_paths: Sequence[Path]) -> None:
        self._key_paths = tuple(key_paths)
        self._read_keys()

    def verify(self, directory: Path, manifest: Manifest) -> None:
        """Verifies the signature of a version over exactly the files that its manifest names, and the manifest.

        Whether the files have the manifest's checksums is for `verify_files` to say.

        Raises:
            ModelRejectedError: SIGNATURE_MISSING, SIGNATURE_INVALID or, if a key cannot be read now,
                MODEL_KEY_UNUSABLE.
            OSError: The signature cannot be read now.
        """
        try:
            with (directory / SIGNATURE_PATH).open("rb") as stream:
                content = stream.read(_MAX_SIGNATURE_BYTES + 1)
        except (FileNotFoundError, IsADirectoryError):
            raise ModelRejectedError(
                "SIGNATURE_MISSING",
                f"There is no {SIGNATURE_PATH}, and this server takes signed versions only (setting model_key). "
                "Sign it with ferserve-train sign.",
            ) from None
        try:
            keys = self._read_keys()
        except ModelKeyError as error:
            raise ModelRejectedError("MODEL_KEY_UNUSABLE", f"{error}.") from error
        try:
            predicate = signed_predicate(content, keys)
            check_signed_files(predicate, manifest)
            if not predicate["serialization"]["allow_symlinks"]:
                _check_no_links(directory, manifest)
        except RecursionError:
            raise _invalid("it is nested too deeply") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            text = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise _invalid(text) from error

    def _read_keys(self) -> list[EllipticCurvePublicKey]:
        return [read_key(path) for path in self._key_paths]


def signed_predicate(content: bytes, keys: Sequence[EllipticCurvePublicKey]) -> Mapping[str, Any]:
    """Returns the predicate of a bundle whose signature one of the keys verifies.

    Args:
        content: The bundle, JSON.
        keys: Public keys of signers.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: It is malformed, or none verifies it.
    """
    if len(content) > _MAX_SIGNATURE_BYTES:
        raise ValueError(f"it is larger than {_MAX_SIGNATURE_BYTES >> 20} MiB")
    bundle = json.loads(content.decode("utf-8"))
    if bundle["mediaType"] not in _MEDIA_TYPES:
        raise ValueError(f"it is of media type {bundle['mediaType']!r}, not a Sigstore bundle 0.3")
    if "publicKey" not in bundle["verificationMaterial"]:
        raise ValueError("it was made with a certificate; this server verifies public keys only")
    envelope = bundle["dsseEnvelope"]
    if envelope["payloadType"] != _PAYLOAD_TYPE:
        raise ValueError(f"its payload is of type {envelope['payloadType']!r}, not {_PAYLOAD_TYPE}")
    (signature,) = envelope["signatures"]  # a bundle 0.3 holds one
    payload = base64.b64decode(envelope["payload"], validate=True)
    hint = bundle["verificationMaterial"]["publicKey"].get("hint")
    _verify_envelope(payload, base64.b64decode(signature["sig"], validate=True), hint, keys)
    statement = json.loads(payload.decode("utf-8"))
    if (statement["_type"], statement["predicateType"]) != (_STATEMENT_TYPE, _PREDICATE_TYPE):
        raise ValueError(f"what was signed is a {statement['predicateType']!r}, not {_PREDICATE_TYPE}")
    predicate: Mapping[str, Any] = statement["predicate"]
    return predicate


def check_signed_files(predicate: Mapping[str, Any], manifest: Manifest) -> None:
    """Compares the signed files with those of the manifest and the manifest itself.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: They differ, or the predicate is malformed.
    """
    serialization = predicate["serialization"]
    if serialization["method"] != "files" or serialization["hash_type"] != "sha256":
        raise ValueError(
            f"its files were hashed by {serialization['method']}, {serialization['hash_type']}; sign them whole, "
            "with sha256"
        )
    resources = predicate["resources"]
    signed = {str(PurePosixPath(each["name"])): each["digest"] for each in resources}
    if len(signed) != len(resources):
        raise ValueError("it names a file twice")
    expected = {str(PurePosixPath(name)): digest for name, digest in manifest.file_sums.items()}
    expected[MANIFEST_PATH] = manifest.content_sum
    for name in sorted(expected.keys() | signed.keys()):
        if name not in signed:
            raise ValueError(f"it does not cover {name}")
        if name not in expected:
            raise ValueError(f"it covers {name}, which the version does not have")
        if signed[name] != expected[name]:
            raise ValueError(f"{name} is not the file that was signed")


def _verify_envelope(
    payload: bytes, signature: bytes, hint: object, keys: Sequence[EllipticCurvePublicKey]
) -> None:
    known = {_hint(key): key for key in keys}
    if hint and hint not in known:
        raise ValueError(f"it was made with another key: the SHA-256 of its public key is {str(hint)[:64]}")
    # Bundles of before 1.1.0 of the reference implementation do not say which key it was.
    for key in [known[str(hint)]] if hint else known.values():
        try:
            key.verify(signature, pre_authentication_encoding(payload), ECDSA(_HASHES[key.curve.name]()))
        except InvalidSignature:
            continue
        return
    raise ValueError("it does not match what was signed, or was made with another key")


def pre_authentication_encoding(payload: bytes) -> bytes:
    """Returns the bytes that a DSSE signature covers: type and payload, each with its length."""
    return f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def _hint(key: EllipticCurvePublicKey) -> str:
    """Returns the SHA-256 of a public key's PEM, by which bundles name it."""
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _check_no_links(directory: Path, manifest: Manifest) -> None:
    for name in (*manifest.file_sums, MANIFEST_PATH):
        parts = PurePosixPath(name)
        for path in (parts, *parts.parents[:-1]):
            if (directory / path).is_symlink():
                raise ValueError(f"{path} is a link, and it was signed without; sign it with links allowed")


def _invalid(text: str) -> ModelRejectedError:
    return ModelRejectedError("SIGNATURE_INVALID", f"{SIGNATURE_PATH} does not vouch for this version: {text}.")
