"""Tests the settings of a server without models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ferserve_server.config.reading import SettingsError, format_settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

TIER = ["--upstream", "dns:///models:50051"]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("FERSERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_one_flag_makes_a_server_without_models() -> None:
    assert load_settings(TIER).upstream.upstream == "dns:///models:50051"
    assert load_settings([]).upstream.upstream == ""


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--upstream", "models"], "'models' is not HOST:PORT"),
        (["--upstream", "one:1,other:2"], "several servers must be given by their addresses"),
        ([*TIER, "--processes", "2"], "processes must be 1 with upstream"),
        ([*TIER, "--default-model", "x"], "give default_model to the servers of the tier instead"),
        ([*TIER, "--alias", "x:stable=1", "--control-on-main"], "give control_on_main, alias to the servers"),
        ([*TIER, "--canary-share", "0.1"], "give canary_share to the servers of the tier"),
        ([*TIER, "--upstream-cert-file", "a"], "upstream_cert_file and upstream_key_file must be given together"),
        ([*TIER, "--upstream-cert-file", "a", "--upstream-key-file", "b"], "needs upstream_ca_file"),
        ([*TIER, "--upstream-attempts", "6"], "upstream_attempts"),
    ],
)
def test_what_cannot_be_together_is_rejected_with_what_to_do(flags: list[str], fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags)
    assert fault in str(caught.value)


def test_the_model_folder_that_an_image_sets_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERSERVE_MODEL_REPO", "/models")
    assert load_settings(TIER).upstream.upstream


def test_printed_settings_can_be_read_again(tmp_path: Path) -> None:
    settings = load_settings([*TIER, "--upstream-batches", "3"])
    (tmp_path / "printed.toml").write_text(format_settings(settings))
    again = load_settings(["--config", str(tmp_path / "printed.toml")])
    assert again == settings
