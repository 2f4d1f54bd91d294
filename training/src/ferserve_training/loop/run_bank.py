"""Ties a run to the rounds of a view bank that it began with."""

from dataclasses import replace
from pathlib import Path

from ferserve_training.data.faces import FaceData
from ferserve_training.errors import RunError
from ferserve_training.loop.records import RunSettings
from ferserve_training.views.bank import ViewBank, open_bank


def with_bank(settings: RunSettings, data: FaceData) -> RunSettings:
    """Note the rounds that the bank of a new run has; settings without a bank are given back as they are.

    Raises:
        RunError: There is no bank, it has no finished round, or it was made from other faces.
    """
    if settings.bank is None:
        return settings
    bank = open_bank(Path(settings.bank))
    if not bank.round_count:
        raise RunError(f"{bank.folder}: has no finished round; go on with 'ferserve-train bank'")
    if (bank.settings.data_sha256, bank.settings.face_count) != (data.sha256, len(data.training)):
        raise RunError(f"{bank.folder}: was made from other faces than --data; name those, or make another bank")
    return replace(settings, bank_rounds=bank.round_count, bank_sha256=bank.sha256())


def read_bank(settings: RunSettings) -> ViewBank:
    """Open the rounds of a bank that a run began with.

    Raises:
        RunError: They are not there any more, or others are.
    """
    if settings.bank is None:
        raise ValueError("the run has no bank")
    bank = open_bank(Path(settings.bank)).first(settings.bank_rounds)
    if bank.sha256() != settings.bank_sha256:
        raise RunError(f"{bank.folder}: is not the bank that the run began with")
    return bank
