"""Ensembles: versions without a net of their own, which the server answers for with the mean of other versions."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import TrainingError
from ferserve_training.export.ensemble_golden import Scorer, mean_golden
from ferserve_training.export.golden import write_golden
from ferserve_training.export.manifest import MANIFEST_PATH, digest_files
from ferserve_training.export.members import MODEL_NAME, Member, read_members
from ferserve_training.export.model_card import INTENDED_USE, MODEL_CARD_PATH
from ferserve_training.export.publish import publish_version

_FORMAT_VERSION: Final = 1


def publish_ensemble(name: str, members: Sequence[str], model_repo: Path, score: Scorer) -> Path:
    """Publish an ensemble as the next version of a model.

    Args:
        name: Of the model; it may have versions that are no ensembles.
        members: The versions to average, two or more, each `MODEL/VERSION`.
        model_repo: Root of the model repository; the members lie in it too.
        score: Asks a member for probabilities; used where the members' golden faces differ.

    Returns:
        The folder of the version.

    Raises:
        TrainingError: The name cannot be served, a member cannot be used (see `read_members` and `mean_golden`),
            or the repository cannot be written.
    """
    if MODEL_NAME.fullmatch(name) is None:
        raise TrainingError(f"{name}: not a model's name; use letters, digits, '.', '_' and '-', and no dot first")
    read = read_members(members, model_repo)
    golden = mean_golden([member.folder for member in read], score)
    model_folder = model_repo / name
    with publish_version(model_folder) as draft:
        (draft.folder / "assets.extra").mkdir()
        write_golden(golden.faces, golden.probabilities, draft.folder)
        card = ensemble_card_of(name, draft.version, read)
        write_atomically(draft.folder / MODEL_CARD_PATH, card.encode())
        document = ensemble_manifest_of(name, draft.version, datetime.now(UTC), read, digest_files(draft.folder))
        write_atomically(draft.folder / MANIFEST_PATH, (json.dumps(document, indent=2) + "\n").encode())
    return model_folder / str(draft.version)


def ensemble_manifest_of(
    name: str, version: int, created: datetime, members: Sequence[Member], files: dict[str, str]
) -> dict[str, Any]:
    """Put the manifest of an ensemble together, ready for JSON.

    It says what any version's manifest says, but for `members` in the place of a SavedModel's files: name, version
    and the SHA-256 of the manifest of each. Figures are left out: nobody has measured the mean. A count is 0, "not
    known", if a member does not say it.

    Args:
        name: Of the model.
        version: Its number, from 1.
        created: When it was published.
        members: What it averages; labels and input are the first one's.
        files: SHA-256 of each of its own files by its path in the version, the manifest left out.
    """
    mac_counts = [member.mac_count for member in members]
    parameter_counts = [member.parameter_count for member in members]
    return {
        "format_version": _FORMAT_VERSION,
        "name": name,
        "version": version,
        "created_time": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "labels": list(members[0].labels),
        "input": members[0].input,
        "outputs": {"probabilities": "probabilities"},
        "mac_count": sum(mac_counts) if all(mac_counts) else 0,
        "parameter_count": sum(parameter_counts) if all(parameter_counts) else 0,
        "members": [
            {"name": member.name, "version": member.version, "manifest_sha256": member.manifest_sha256}
            for member in members
        ],
        "files": files,
    }


def ensemble_card_of(name: str, version: int, members: Sequence[Member]) -> str:
    """Write the card of an ensemble in Markdown.

    Args:
        name: Of the model.
        version: Its number.
        members: What it averages.
    """
    made_of = "\n".join(f"- {member}" for member in members)
    return f"""\
# {name}, version {version}

An ensemble: the mean of the calibrated probabilities of

{made_of}

The members' own cards tell their figures and data. The mean itself has not been measured: members that were
calibrated one by one need not be calibrated together.

{INTENDED_USE}"""
