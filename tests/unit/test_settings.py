"""Tests settings: their sources, their validation, and their printing."""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from ferserve.v1 import face_pb2
from ferserve_server.config.reading import SettingsError, format_settings, load_settings
from ferserve_server.config.settings import SETTINGS, Settings
from ferserve_server.domain.canary import CanaryMode
from ferserve_server.models.canary.rules import CanaryRules
from ferserve_server.services.codec.messages import parse_detection
from ferserve_server.services.limits import RequestLimits

LIMITS = RequestLimits(
    max_message_bytes=2**25,
    max_metadata_bytes=2**14,
    max_faces_per_request=8,
    max_images_per_request=8,
    max_detection_side_pixels=1920,
)


def _value(settings: Settings, name: str) -> object:
    return getattr(getattr(settings, SETTINGS[name][0]), name)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("FERSERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "ferserve.toml"
    path.write_text(text)
    return str(path)


def _faults(arguments: list[str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(arguments)
    return str(caught.value).splitlines()


def test_without_anything_the_defaults_hold() -> None:
    assert load_settings([]) == Settings()
    assert load_settings([]).server.listen == "0.0.0.0:50051"


def test_flags_win_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _toml(
        tmp_path, "[batching]\nmax_queue_faces = 1001\nmax_queue_mib = 1002\n[limits]\nmax_queue_images = 1003\n"
    )
    monkeypatch.setenv("FERSERVE_MAX_QUEUE_FACES", "2001")
    monkeypatch.setenv("FERSERVE_MAX_QUEUE_MIB", "2002")
    settings = load_settings(["--config", path, "--max-queue-faces", "3001"])
    assert settings.batching.max_queue_faces == 3001
    assert settings.batching.max_queue_mib == 2002
    assert settings.limits.max_queue_images == 1003
    assert settings.limits.max_faces_per_request == 512


def test_the_file_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERSERVE_CONFIG", _toml(tmp_path, '[server]\nlisten = "127.0.0.1:1"'))
    assert load_settings([]).server.listen == "127.0.0.1:1"


def test_the_flag_for_the_file_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERSERVE_CONFIG", str(tmp_path / "not-there.toml"))
    path = _toml(tmp_path, "[batching]\nmax_queue_mib = 5")
    assert load_settings([f"--config={path}"]).batching.max_queue_mib == 5


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--bucket-sizes", "1,8,32"], "bucket_sizes", (1, 8, 32)),
        (["--bucket-sizes=1, 8"], "bucket_sizes", (1, 8)),
        (["--no-reflection"], "reflection", False),
        (["--reflection"], "reflection", True),
        (["--no-open-inference"], "open_inference", False),
        (["--no-tf-serving"], "tf_serving", False),
        (["--http-listen", "off"], "http_listen", "off"),
        (["--metrics-listen", "off"], "metrics_listen", "off"),
        (["--metrics-listen", ""], "metrics_listen", "9464"),
        (["--no-page"], "page", False),
        (
            ["--http-origins", "https://a.example, http://b.example:8080/"],
            "http_origins",
            ("https://a.example", "http://b.example:8080"),
        ),
        (["--model-repo", "/models"], "model_repo", Path("/models")),
        (["--max-queue-delay-ms", "2.5"], "max_queue_delay_ms", 2.5),
        (["--log-level", "debug"], "log_level", "debug"),
        (["--repository-poll-s", "0"], "repository_poll_s", 0.0),
        (["--alias", "m:stable=1", "--alias", "m:b=2"], "alias", ("m:stable=1", "m:b=2")),
        (["--alias", "m:stable=1; m:b=2"], "alias", ("m:stable=1", "m:b=2")),
        (["--version-policy", "m=specific:1,3"], "version_policy", ("m=specific:1,3",)),
        (
            ["--version-policy", "m=specific:1,3;n=all", "--version-policy", "o=latest:2"],
            "version_policy",
            ("m=specific:1,3", "n=all", "o=latest:2"),
        ),
    ],
)
def test_flags_are_read(arguments: list[str], name: str, value: object) -> None:
    assert _value(load_settings(arguments), name) == value


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("FERSERVE_BUCKET_SIZES", "1,8,32", "bucket_sizes", (1, 8, 32)),
        ("FERSERVE_REFLECTION", "false", "reflection", False),
        ("FERSERVE_MAX_QUEUE_MIB", "", "max_queue_mib", 64),
        ("FERSERVE_SOMETHING_ELSE", "x", "max_queue_mib", 64),
    ],
)
def test_the_environment_is_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    assert _value(load_settings([]), name) == value


@pytest.mark.parametrize("text", ["bucket_sizes = [1, 8]", 'bucket_sizes = "1,8"'])
def test_lists_may_be_written_as_toml_lists_or_as_on_the_command_line(tmp_path: Path, text: str) -> None:
    assert load_settings(["--config", _toml(tmp_path, f"[batching]\n{text}")]).batching.bucket_sizes == (1, 8)


@pytest.mark.parametrize("text", ["listen = ", "listen 5", "listen = 'a'\nlisten = 'b'"])
def test_a_file_that_is_no_toml_is_rejected_by_name(tmp_path: Path, text: str) -> None:
    path = _toml(tmp_path, text)
    (line,) = _faults(["--config", path])
    assert line.startswith(f"config: {path} is not TOML: ")


def test_a_file_that_is_no_text_is_rejected_by_name(tmp_path: Path) -> None:
    path = tmp_path / "ferserve.toml"
    path.write_bytes(b"\xff\xfe")
    (line,) = _faults(["--config", str(path)])
    assert line.startswith(f"config: {path} is not TOML: ")


@pytest.mark.parametrize("name", ["not-there.toml", "."])
def test_a_file_that_is_not_there_is_rejected_by_name(name: str) -> None:
    (line,) = _faults(["--config", name])
    assert line == f"config: there is no file {name}"


@pytest.mark.parametrize(
    ("arguments", "beginning"),
    [
        (["--max-queue-mib", "0"], "max_queue_mib: "),
        (["--max-queue-mib", "many"], "max_queue_mib: "),
        (["--max-queue-mib", "1.5"], "max_queue_mib: "),
        (["--scale-factor", "1.0"], "scale_factor: "),
        (["--scale-factor", "nan"], "scale_factor: "),
        (["--drain-timeout-s", "inf"], "drain_timeout_s: "),
        (["--golden-tolerance", "1"], "golden_tolerance: "),
        (["--log-level", "loud"], "log_level: "),
        (["--bucket-sizes", "1,x"], "bucket_sizes"),
        (["--bucket-sizes", "8,1"], "bucket_sizes must rise"),
        (["--bucket-sizes", "1,1"], "bucket_sizes must rise"),
        (["--bucket-sizes", "0,1"], "bucket_sizes must rise"),
        (["--max-faces-per-request", "5000"], "max_faces_per_request must not be above max_queue_faces"),
        (
            ["--max-queue-faces-per-caller", "100"],
            "max_faces_per_request must not be above max_queue_faces_per_caller",
        ),
        (["--max-images-per-request", "300"], "max_images_per_request must not be above max_queue_images"),
        (["--tls-cert-file", "x"], "tls_cert_file and tls_key_file must be given together"),
        (["--tls-key-file", "x"], "tls_cert_file and tls_key_file must be given together"),
        (["--canary-share", "1"], "canary_share must be below 1 to split"),
        (["--canary-share", "0.1", "--alias", "m:stable=1"], "alias m:stable is moved by canaries"),
        (["--canary", "m:share=0.1", "--alias", "m:stable=1"], "alias m:stable is moved by canaries"),
        (["--canary", "m:share=1"], "canary m: share must be below 1 to split"),
        (["--canary", "m:share=2"], "canary m: share: "),
        (["--canary", "m:window_s=inf"], "canary m: window_s: "),
        (["--canary", "m:mode=mirror"], "canary m: mode: "),
        (["--canary", "m"], "canary: 'm' is not MODEL:NAME=VALUE"),
        (["--canary", "m:share"], "canary: 'm:share': 'share' is not NAME=VALUE"),
        (["--canary", "m:size=3"], "canary: 'm:size=3': 'size=3' is not NAME=VALUE with a NAME of share, mode"),
        (["--canary", "m:share=0.1,share=0.2"], "canary: 'm:share=0.1,share=0.2' has share twice"),
        (["--canary", "m:share=0.1;m:mode=split"], "canary: model m is named twice"),
        (["--detector", "hog"], "detector: must be yunet or "),
        (["--tls-client-ca-file", "x"], "tls_client_ca_file needs tls_cert_file"),
    ],
    ids=" ".join,
)
def test_a_bad_value_gives_one_line_that_names_its_setting(arguments: list[str], beginning: str) -> None:
    (line,) = _faults(arguments)
    assert line.startswith(beginning)


def test_every_fault_gets_its_own_line() -> None:
    lines = _faults(["--max-queue-mib", "0", "--min-neighbors", "0", "--score-threshold", "2"])
    assert [line.partition(":")[0] for line in lines] == ["max_queue_mib", "score_threshold", "min_neighbors"]
    assert lines[0].endswith("got '0'")


def test_help_tells_every_setting_with_its_meaning_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_settings(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, (_, field) in SETTINGS.items():
        flag = f"--{name.replace('_', '-')}"
        assert flag in text
        reported = text[text.index(flag + " ") if flag + " " in text else text.index(flag + ",") :]
        described = reported.index(str(field.description))
        default = reported[described + len(str(field.description)) :][:80]
        assert field.default is None or default.startswith(" (default: "), name


def test_what_is_printed_can_be_read_back(tmp_path: Path) -> None:
    flags = {
        "bucket-sizes": "2,6",
        "golden-tolerance": "1e-7",
        "metrics-listen": "off",
        "model-key": "first.pub;second.pub",
        "model-repo": '/models/"é😀\\ \t',
        "tls-cert-file": "c.pem",
        "tls-key-file": "k.pem",
        "log-level": "warning",
        "score-threshold": "0.25",
    }
    settings = load_settings(["--no-reflection", *(f"--{name}={value}" for name, value in flags.items())])
    path = _toml(tmp_path, format_settings(settings))
    assert load_settings(["--config", path]) == settings


def test_the_files_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    files = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert files
    for each in files:
        assert load_settings(["--config", _toml(tmp_path, each)]) != Settings()


def test_the_printed_defaults_hold_every_setting_and_its_meaning() -> None:
    text = format_settings(Settings())
    document = tomllib.loads(text)
    unset = {name for name, (_, field) in SETTINGS.items() if field.default is None}
    printed = {name: group for group, table in document.items() for name in table}
    assert printed == {name: group for name, (group, _) in SETTINGS.items() if name not in unset}
    assert all(f"# {name} is not set" in text for name in unset)
    assert all(f"# {field.description}" in text for _, field in SETTINGS.values())


def test_policies_and_aliases_come_from_the_environment_and_from_lists_of_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERSERVE_ALIAS", "m:stable=4;m:x=2")
    path = _toml(tmp_path, '[models]\nversion_policy = ["m=specific:4,5", "n=all"]')
    settings = load_settings(["--config", path])
    assert settings.models.alias == ("m:stable=4", "m:x=2")
    assert settings.models.version_policy == ("m=specific:4,5", "n=all")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alias", "m:1=2"], "alias: 'm:1=2': an alias is 1 to 64"),
        (["--alias", "stable"], "alias: 'stable' is not MODEL:NAME=VERSION"),
        (["--version-policy", "m=newest"], "version_policy: 'm=newest': use latest:N"),
        (["--version-policy", "m=all;m=latest:1"], "version_policy: model m has two policies"),
    ],
)
def test_policies_and_aliases_that_are_none_are_rejected_by_name(arguments: list[str], words: str) -> None:
    (fault,) = _faults(arguments)
    assert fault.startswith(words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--canary", "m:share=0.1,mode=shadow", "--canary", "n:auto=false,window_s=5", "--canary", "o:share=0"],
        ["--canary", "m:share=0.1, mode=shadow; n:auto=false,window_s=5; o:share=0"],
    ],
    ids=["repeated", "parted"],
)
def test_a_model_may_have_canary_settings_of_its_own(arguments: list[str]) -> None:
    policies = load_settings(["--canary-share", "0.2", "--canary-min-requests", "30", *arguments]).canary.policies
    default = CanaryRules(share=0.2, min_requests=30)
    assert policies.of("other") == default
    assert policies.of("m") == replace(default, share=0.1, mode=CanaryMode.SHADOW)
    assert policies.of("n") == replace(default, auto=False, window_s=5.0)
    assert policies.of("o") is None
    assert policies.shortest_window_s == 5.0


def test_canaries_of_one_model_come_from_a_list_of_toml(tmp_path: Path) -> None:
    policies = load_settings(["--config", _toml(tmp_path, '[canary]\ncanary = ["m:share=0.1"]')]).canary.policies
    assert policies.of("m") == CanaryRules(share=0.1)
    assert policies.of("other") is None


def test_an_alias_of_a_model_without_canaries_may_be_fixed() -> None:
    settings = load_settings(["--canary-share", "0.1", "--canary", "m:share=0", "--alias", "m:stable=1"])
    assert settings.models.alias == ("m:stable=1",)


def test_without_canaries_there_is_no_window() -> None:
    assert load_settings(["--canary", "m:window_s=5"]).canary.policies.shortest_window_s is None


def test_tiles_are_searched_where_the_setting_or_the_request_says_so() -> None:
    for flags, asked, expected in ([], False, False), ([], True, True), (["--tiles"], False, True):
        defaults = load_settings(flags).detection.options
        request = face_pb2.DetectionOptions(tiles=asked)
        assert parse_detection(request, defaults, LIMITS).tiles is expected


def test_another_process_reads_the_settings_as_they_are() -> None:
    """Worker processes get their settings as JSON."""
    flags = [
        "--bucket-sizes", "1,8", "--alias", "fer-nano:beta=3", "--version-policy", "a=specific:1,2",
        "--version-policy", "b=all", "--canary-share", "0.2", "--canary-mode", "shadow", "--processes", "3",
        "--model-repo", "some/where", "--no-reflection", "--control-token-file", "token",
    ]  # fmt: skip
    settings = load_settings(flags)
    document = json.loads(json.dumps(settings.model_dump(mode="json")))
    assert Settings.model_validate(document) == settings
