"""Tests who may make control calls, and how files of secrets are followed (faults, items 26 and 27)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from ferserve_server.config.settings import Settings
from ferserve_server.domain.control_errors import (
    ControlForbiddenError,
    ControlThrottledError,
    ControlUnauthenticatedError,
)
from ferserve_server.runtime.addresses import ListenError
from ferserve_server.runtime.tls import ServerTls, TlsFiles
from ferserve_server.services.control_access import (
    ControlAuthorizer,
    Requester,
    TokenFile,
    TokenFileError,
    WrongTokenLimit,
)
from support.certificates import encrypt_key, make_certificates
from support.fake_clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path


def _with_token(token: str, host: str = "10.0.0.1") -> Requester:
    return Requester([("authorization", f"Bearer {token}")], host=host)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def token_path(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("a token that is long enough\n")
    path.chmod(0o600)
    return path


# Item 26: roles


def test_a_certificate_without_one_of_the_names_may_not_make_control_calls() -> None:
    authorizer = ControlAuthorizer(is_open=True, names=("operator", "ci.example.com"))
    authorizer.check(Requester((), frozenset({"ci.example.com", "other"})))
    for names in (frozenset[str](), frozenset({"client"}), frozenset({"operator,client"})):
        with pytest.raises(ControlForbiddenError):
            authorizer.check(Requester((), names))


def test_names_and_a_token_are_both_needed_where_both_are_set(token_path: Path) -> None:
    authorizer = ControlAuthorizer(is_open=True, names=("operator",), token=TokenFile(token_path))
    right = _with_token("a token that is long enough")
    with pytest.raises(ControlForbiddenError):
        authorizer.check(right)
    with pytest.raises(ControlUnauthenticatedError):
        authorizer.check(Requester((), frozenset({"operator"})))
    authorizer.check(right._replace(certificate_names=frozenset({"operator"})))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"control_names": "operator"}, "need tls_client_ca_file or control_client_ca_file"),
        ({"control_client_ca_file": "x", "control_listen": "1"}, "needs tls_cert_file"),
        (
            {"control_client_ca_file": "x", "control_on_main": True, "tls_cert_file": "x", "tls_key_file": "x"},
            "is for control_listen",
        ),
    ],
)
def test_names_without_certificates_are_rejected_at_the_start(values: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Settings.of(**values)


# Item 27: tokens


def test_wrong_tokens_of_a_host_are_slowed_down_and_others_are_not(token_path: Path, clock: FakeClock) -> None:
    limit = WrongTokenLimit(clock.now)
    authorizer = ControlAuthorizer(is_open=True, token=TokenFile(token_path, clock.now), limit=limit)
    for _ in range(5):
        with pytest.raises(ControlUnauthenticatedError):
            authorizer.check(_with_token("wrong"))
    for token in ("wrong", "a token that is long enough"):  # the right one tells nothing either
        with pytest.raises(ControlThrottledError):
            authorizer.check(_with_token(token))
    authorizer.check(_with_token("a token that is long enough", host="10.0.0.2"))
    clock.advance(2.1)
    authorizer.check(_with_token("a token that is long enough"))


def test_a_million_guesses_a_day_become_43_thousand(clock: FakeClock) -> None:
    limit = WrongTokenLimit(clock.now)
    looked_at = 0
    for _ in range(10_000):
        if not limit.is_exhausted("host"):
            looked_at += 1
            limit.note("host")
        clock.advance(0.0864)
    assert looked_at == pytest.approx(864 / 2 + 5, abs=2)


def test_hosts_without_number_take_no_memory_without_bound(clock: FakeClock) -> None:
    limit = WrongTokenLimit(clock.now)
    for number in range(10_000):
        limit.note(str(number))
    assert len(limit._full_at) <= 4096


def test_a_token_is_read_again_when_its_file_changes(token_path: Path, clock: FakeClock) -> None:
    token = TokenFile(token_path, clock.now)
    token_path.write_text("another token, long enough")
    assert token.current() == b"a token that is long enough"  # looked at most once a second
    clock.advance(1.1)
    assert token.current() == b"another token, long enough"


def test_a_token_whose_file_breaks_stays_active_and_is_logged(token_path: Path, clock: FakeClock) -> None:
    token = TokenFile(token_path, clock.now)
    for change in (lambda: token_path.write_text(""), token_path.unlink):
        change()
        clock.advance(1.1)
        with capture_logs() as logs:
            assert token.current() == b"a token that is long enough"
        assert [line["event"] for line in logs] == ["the previous token stays active"]


def test_no_token_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError, match="cannot be read"):
        TokenFile(tmp_path / "missing")


def test_a_short_token_and_one_that_others_can_read_are_warned_about(token_path: Path) -> None:
    token_path.write_text("short")
    token_path.chmod(0o644)
    with capture_logs() as logs:
        TokenFile(token_path)
    events = " ".join(str(line["event"]) for line in logs)
    assert "every user of this machine can read a secret" in events
    assert "short" in events
    token_path.write_text("a token that is long enough")
    token_path.chmod(0o640)
    with capture_logs() as logs:
        TokenFile(token_path)
    assert not logs


# Item 27: TLS files


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def _files(folder: Path) -> TlsFiles:
    return TlsFiles(folder / "tls.pem", folder / "tls.key", folder / "ca.pem")


def _copy(certificates: Path, name: str, folder: Path) -> TlsFiles:
    files = _files(folder)
    for kind in ("pem", "key"):
        (folder / f"tls.{kind}").write_bytes((certificates / f"{name}.{kind}").read_bytes())
    (folder / "tls.key").chmod(0o600)
    (folder / "ca.pem").write_bytes((certificates / "ca.pem").read_bytes())
    return files


def test_tls_files_are_read_again_when_they_change(tmp_path: Path, certificates: Path, clock: FakeClock) -> None:
    tls = ServerTls(_copy(certificates, "server", tmp_path), clock.now)
    before = tls.context("h2")
    assert tls.context("h2") is before
    _copy(certificates, "client", tmp_path)
    assert tls.context("h2") is before
    clock.advance(1.1)
    assert tls.context("h2") is not before
    assert tls.material().certificate == (certificates / "client.pem").read_bytes()
    assert tls.generation == 2


def test_tls_files_that_do_not_fit_leave_the_previous_ones_active(
    tmp_path: Path, certificates: Path, clock: FakeClock
) -> None:
    tls = ServerTls(_copy(certificates, "server", tmp_path), clock.now)
    before = tls.context()
    (tmp_path / "tls.pem").write_bytes((certificates / "client.pem").read_bytes())  # its key comes later
    clock.advance(1.1)
    with capture_logs() as logs:
        assert tls.context() is before
        clock.advance(1.1)
        assert tls.context() is before
    assert len(logs) == 1
    assert "stay active" in logs[0]["event"]
    (tmp_path / "tls.key").write_bytes((certificates / "client.key").read_bytes())
    tls.refresh(now=True)
    assert tls.generation == 2


def test_an_encrypted_key_says_that_it_is(tmp_path: Path, certificates: Path) -> None:
    files = _copy(certificates, "server", tmp_path)
    encrypt_key(files.key)
    with pytest.raises(ListenError, match="is an encrypted key"):
        ServerTls(files)


def test_a_key_that_others_can_read_is_warned_about(tmp_path: Path, certificates: Path) -> None:
    files = _copy(certificates, "server", tmp_path)
    files.key.chmod(0o644)
    with capture_logs() as logs:
        ServerTls(files)
    assert [line["secret"] for line in logs] == ["the TLS key"]
