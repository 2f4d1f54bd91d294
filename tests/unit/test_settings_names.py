"""Tests names of settings that are misspelt, or in a wrong place of the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ferserve_server.config.reading import SettingsError, load_settings
from ferserve_server.config.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "max_queue_faces = 5",
            "max_queue_faces: this setting belongs to the group batching: write it below a line [batching]",
        ),
        (
            "[server]\nmax_queue_faces = 5",
            "max_queue_faces: this setting belongs to the group batching: write it below a line [batching]",
        ),
        (
            'canary = ["m:share=0.1"]',
            "canary: this setting belongs to the group canary: write it below a line [canary]",
        ),
        (
            "[batching]\nmax_que_faces = 5",
            "max_que_faces: there is no such setting; did you mean max_queue_faces in [batching]?",
        ),
        (
            "[limits]\nmax-image-pixel = 5",
            "max-image-pixel: there is no such setting; did you mean max_image_pixels in [limits]?",
        ),
        ("[log]\nqwxyz = 5", "qwxyz: there is no such setting; --print-config lists all"),
        (
            "[batchng]\nmax_queue_faces = 5",
            "[batchng]: there is no such group of settings; did you mean [batching]?",
        ),
        ("print_config = true", "print_config: there is no such setting; --print-config lists all"),
        ("server = 5", "server: there is no such setting"),
    ],
    ids=lambda text: text.partition(":")[0].replace("\n", " "),
)
def test_a_misplaced_or_misspelt_key_of_the_file_gets_the_right_one(tmp_path: Path, text: str, line: str) -> None:
    (found,) = _faults(["--config", _toml(tmp_path, text)])
    assert found.startswith(line)


def test_an_unknown_group_gets_a_list_of_all(tmp_path: Path) -> None:
    (line,) = _faults(["--config", _toml(tmp_path, "[zzz]\na = 1")])
    assert line == f"[zzz]: there is no such group of settings; there are {', '.join(Settings.model_fields)}"


def test_every_fault_of_a_file_gets_its_own_line(tmp_path: Path) -> None:
    lines = _faults(["--config", _toml(tmp_path, "listen = 'a'\n[http]\npag = 1\n[tsl]\n")])
    assert [line.partition(":")[0] for line in lines] == ["listen", "pag", "[tsl]"]


@pytest.mark.parametrize(
    ("variable", "wanted"),
    [
        ("FERSERVE_MAX_QUE_FACES", "FERSERVE_MAX_QUEUE_FACES"),
        ("FERSERVE_LISTN", "FERSERVE_LISTEN"),
        ("FERSERVE_MODEL_REPOSITORY", "FERSERVE_MODEL_REPO"),
        ("FERSERVE_DEFAULT_MODELS", "FERSERVE_DEFAULT_MODEL"),
        ("ferserve_log_leve", "FERSERVE_LOG_LEVEL"),
    ],
)
def test_a_misspelt_variable_gets_the_right_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, wanted: str
) -> None:
    monkeypatch.setenv(variable, "1")
    (line,) = _faults([])
    assert line.startswith(f"{variable}: there is no such setting; did you mean {wanted}")


@pytest.mark.parametrize(
    "variable",
    [
        "FERSERVE_SERVER",
        "FERSERVE_SERVICE_HOST",
        "FERSERVE_SERVICE_PORT_METRICS",
        "FERSERVE_PORT",
        "FERSERVE_PORT_50051_TCP_ADDR",
        "FERSERVE_MODELS_SERVICE_HOST",
        "FERSERVE_TRACE",
        "FERSERVE_MEMORY",
        "FERSERVE_BENCH_MODEL",
        "FERSERVE_BROWSER_TESTS",
        "FERSERVE_PUBLISH",
    ],
)
def test_variables_of_the_client_of_kubernetes_and_of_other_programs_are_ignored(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "tcp://10.0.0.1:50051")
    assert load_settings([]) == Settings()


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [
        ("--max-que-faces=5", "--max-que-faces: there is no such flag; did you mean --max-queue-faces"),
        ("--max_queue_mib", "--max_queue_mib: there is no such flag; did you mean --max-queue-mib"),
        ("--no-reflections", "--no-reflections: there is no such flag; did you mean --no-reflection"),
        ("--no-listen", "--no-listen: there is no such flag; did you mean "),
        ("--primary-share=1", "--primary-share: there is no such flag"),
        ("--hold-until-queued=1", "--hold-until-queued: there is no such flag"),
        ("--qwxyz", "--qwxyz: there is no such flag; see --help"),
    ],
)
def test_an_unknown_flag_gets_the_nearest_ones(flag: str, wanted: str) -> None:
    (line,) = _faults([flag])
    assert line.startswith(wanted)


def test_an_argument_that_is_no_flag_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_settings(["serve"])
    assert caught.value.code == 2
    assert "serve" in capsys.readouterr().err
