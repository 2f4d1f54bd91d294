"""Tests signed versions (faults, item 29)."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ferserve_server.config.reading import load_settings
from ferserve_server.domain.errors import ModelKeyError, ModelRejectedError
from ferserve_server.domain.servable import ServableState
from ferserve_server.models.manifest import MANIFEST_PATH, read_manifest, verify_files
from ferserve_server.models.signature import SignatureVerifier
from ferserve_training.errors import TrainingError
from ferserve_training.export import sign as signing
from support.fake_models import publish_fake, rewrite_manifest
from support.manager_bench import CountingLoader, Shop
from support.signing_keys import make_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_key(tmp_path)


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    version = publish_fake(tmp_path / "repository")
    _sign(version, keys[0])
    return version


def _sign(version: Path, private: Path, passphrase: str | None = None) -> Path:
    return signing.sign_version(version, signing.read_private_key(private, passphrase))


def _verify(version: Path, *public: Path) -> None:
    SignatureVerifier(public).verify(version, read_manifest(version))


def _rejection(version: Path, *public: Path) -> ModelRejectedError:
    with pytest.raises(ModelRejectedError) as caught:
        _verify(version, *public)
    return caught.value


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda each: each.name)
def test_a_signed_version_is_accepted(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    private, public = make_key(tmp_path, curve=curve)
    version = publish_fake(tmp_path / "repository")
    _sign(version, private)
    _verify(version, public)
    verify_files(version, read_manifest(version))  # the signature is no unlisted file


def test_a_version_without_signature_is_distinguished(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    rejection = _rejection(publish_fake(tmp_path / "repository"), keys[1])
    assert rejection.reason == "SIGNATURE_MISSING"
    assert "ferserve-train sign" in rejection.message


def test_one_of_several_keys_is_enough_and_another_is_not(
    tmp_path: Path, signed: Path, keys: tuple[Path, Path]
) -> None:
    other = make_key(tmp_path, "other")[1]
    _verify(signed, other, keys[1])
    rejection = _rejection(signed, other)
    assert rejection.reason == "SIGNATURE_INVALID"
    assert "another key" in rejection.message


def test_a_version_that_is_signed_again_has_the_new_signature(tmp_path: Path, signed: Path) -> None:
    private, public = make_key(tmp_path, "new")
    _sign(signed, private)
    _verify(signed, public)


def _change_bundle(version: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = version / signing.SIGNATURE_PATH
    bundle = json.loads(path.read_text())
    change(bundle)
    path.write_text(json.dumps(bundle))


def _change_statement(bundle: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


_FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another statement": lambda bundle: _change_statement(bundle, lambda each: each.update(_type="x")),
    "a file left out": lambda bundle: _change_statement(bundle, lambda each: each["predicate"]["resources"].pop()),
    "another signature": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
    "a signature that is no Base64": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig="%"),
    "a signature that is a number": lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig=7),
    "no signature": lambda bundle: bundle["dsseEnvelope"].update(signatures=[]),
    "two signatures": lambda bundle: bundle["dsseEnvelope"].update(signatures=[{"sig": ""}, {"sig": ""}]),
    "another payload type": lambda bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
    "another media type": lambda bundle: bundle.update(mediaType="application/json"),
    "an unhashable media type": lambda bundle: bundle.update(mediaType=[]),
    "no envelope": lambda bundle: bundle.pop("dsseEnvelope"),
    "a certificate": lambda bundle: bundle.update(verificationMaterial={"x509CertificateChain": {}}),
    "another hint": lambda bundle: bundle["verificationMaterial"].update(publicKey={"hint": "00"}),
    "an unhashable hint": lambda bundle: bundle["verificationMaterial"].update(publicKey={"hint": [1]}),
}


@pytest.mark.parametrize("forgery", _FORGERIES.values(), ids=_FORGERIES)
def test_a_forged_bundle_is_rejected(
    signed: Path, keys: tuple[Path, Path], forgery: Callable[[dict[str, Any]], object]
) -> None:
    _change_bundle(signed, forgery)
    assert _rejection(signed, keys[1]).reason == "SIGNATURE_INVALID"


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b"[" * 200_000, b"{}", b" " * (17 << 20)])
def test_what_is_no_bundle_is_rejected(signed: Path, keys: tuple[Path, Path], content: bytes) -> None:
    (signed / signing.SIGNATURE_PATH).write_bytes(content)
    assert _rejection(signed, keys[1]).reason == "SIGNATURE_INVALID"


def test_a_bundle_without_a_hint_is_tried_with_every_key(
    tmp_path: Path, signed: Path, keys: tuple[Path, Path]
) -> None:
    _change_bundle(signed, lambda bundle: bundle["verificationMaterial"].update(publicKey={"rawBytes": ""}))
    _verify(signed, make_key(tmp_path, "other")[1], keys[1])


def test_a_changed_manifest_is_rejected(signed: Path, keys: tuple[Path, Path]) -> None:
    rewrite_manifest(signed, {"temperature": 2.0})
    rejection = _rejection(signed, keys[1])
    assert (rejection.reason, MANIFEST_PATH in rejection.message) == ("SIGNATURE_INVALID", True)


def test_a_signature_of_another_version_is_rejected(tmp_path: Path, signed: Path, keys: tuple[Path, Path]) -> None:
    other = publish_fake(tmp_path / "repository", version=2)
    (other / signing.SIGNATURE_PATH).write_bytes((signed / signing.SIGNATURE_PATH).read_bytes())
    assert _rejection(other, keys[1]).reason == "SIGNATURE_INVALID"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda predicate: predicate["serialization"].update(method="file-shard-1048576"), "sign them whole"),
        (lambda predicate: predicate["serialization"].update(hash_type="blake3"), "sha256"),
        (lambda predicate: predicate.pop("resources"), "lacks 'resources'"),
        (lambda predicate: predicate["resources"].append(predicate["resources"][0]), "twice"),
        (lambda predicate: predicate["resources"].append({"name": "x", "digest": "0"}), "covers x"),
        (lambda predicate: predicate["resources"].pop(), "does not cover"),
        (lambda predicate: predicate["resources"].append(7), "not"),
    ],
)
def test_a_signed_statement_that_does_not_fit_is_rejected(
    signed: Path, keys: tuple[Path, Path], change: Callable[[dict[str, Any]], object], words: str
) -> None:
    sums = {**read_manifest(signed).file_sums, MANIFEST_PATH: read_manifest(signed).content_sum}
    statement = signing.statement_of("1", sums)
    change(statement["predicate"])
    bundle = signing.bundle_of(statement, signing.read_private_key(keys[0], None))
    (signed / signing.SIGNATURE_PATH).write_text(json.dumps(bundle))
    rejection = _rejection(signed, keys[1])
    assert (rejection.reason, words in rejection.message) == ("SIGNATURE_INVALID", True), rejection.message


def test_links_are_followed_only_where_the_signer_says_so(
    tmp_path: Path, signed: Path, keys: tuple[Path, Path]
) -> None:
    store = tmp_path / "store"
    (signed / "saved_model.pb").rename(store)
    (signed / "saved_model.pb").symlink_to(store)
    _verify(signed, keys[1])
    sums = {**read_manifest(signed).file_sums, MANIFEST_PATH: read_manifest(signed).content_sum}
    statement = signing.statement_of("1", sums)
    statement["predicate"]["serialization"]["allow_symlinks"] = False
    bundle = signing.bundle_of(statement, signing.read_private_key(keys[0], None))
    (signed / signing.SIGNATURE_PATH).write_text(json.dumps(bundle))
    assert "saved_model.pb is a link" in _rejection(signed, keys[1]).message


async def test_a_server_with_a_key_serves_signed_versions_alone(
    tmp_path: Path, signed: Path, keys: tuple[Path, Path]
) -> None:
    unsigned = publish_fake(tmp_path / "repository", version=2)
    loader = CountingLoader()
    shop = Shop(signed.parents[1], loader, versions_per_model=2, signatures=SignatureVerifier([keys[1]]))
    await shop.manager.refresh()
    assert loader.loaded == [1]  # nothing of the other was given to an engine
    assert (shop.states()[1], shop.states()[2]) == (ServableState.READY, ServableState.FAILED)
    _sign(unsigned, keys[0])
    for _ in range(3):  # its files are looked at until they rest
        await shop.manager.refresh()
    assert shop.states()[2] is ServableState.READY


async def test_a_key_that_cannot_be_read_for_a_while_is_tried_again(
    tmp_path: Path, keys: tuple[Path, Path], signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    shop = Shop(signed.parents[1], CountingLoader(), signatures=SignatureVerifier([keys[1]]))
    aside = keys[1].rename(tmp_path / "aside")
    await shop.manager.refresh()
    (failure,) = (each.failure for each in shop.manager.model("fer-nano").versions)
    assert isinstance(failure, ModelRejectedError)
    assert failure.reason == "MODEL_KEY_UNUSABLE"
    aside.rename(keys[1])
    now += 1.1
    await shop.manager.refresh()
    assert shop.states()[1] is ServableState.READY


def test_keys_of_other_kinds_are_rejected_with_what_to_do(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(ModelKeyError, match="private key"):
        SignatureVerifier([keys[0]])
    with pytest.raises(ModelKeyError, match="No such file"):
        SignatureVerifier([tmp_path / "none"])
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ModelKeyError, match="not a public key"):
        SignatureVerifier([tmp_path / "text"])
    other = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "rsa").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ModelKeyError, match="P-256"):
        SignatureVerifier([tmp_path / "rsa"])


def test_a_signer_learns_what_is_wrong_with_a_key(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    private, _ = make_key(tmp_path, "safe", passphrase="open")  # noqa: S106 - of a key that lives as long as the test
    assert signing.read_private_key(private, "open")
    for path, passphrase, words in (
        (private, None, "FERSERVE_SIGNING_PASSPHRASE"),
        (private, "wrong", "passphrase is wrong"),
        (keys[1], None, "no private key"),
        (tmp_path / "none", None, "No such file"),
    ):
        with pytest.raises(TrainingError, match=words):
            signing.read_private_key(path, passphrase)


def test_only_a_whole_version_is_signed(tmp_path: Path, keys: tuple[Path, Path], signed: Path) -> None:
    with pytest.raises(TrainingError, match="no exported version"):
        _sign(tmp_path, keys[0])
    (signed / "more.txt").write_text("")
    with pytest.raises(TrainingError, match=r"more\.txt is not the file"):
        _sign(signed, keys[0])


def test_several_keys_are_settings_of_one_name(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.pub", "b.pub")]
    settings = load_settings(["--model-key", paths[0], "--model-key", paths[1]])
    assert [str(path) for path in settings.models.model_key] == paths
