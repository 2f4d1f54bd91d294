"""What an ensemble is made of: versions that lie in the same repository, unchanged since it was published."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.models.manifest import MANIFEST_PATH, decode_manifest, verify_files
from ferserve_server.models.source import MODEL_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.servable import EnsembleMember, ModelDescription, ServableId
    from ferserve_server.models.manifest import Manifest
    from ferserve_server.models.source import RepositorySource


@dataclass(frozen=True, slots=True)
class VerifiedMember:
    """A member whose files are those that it and the ensemble were published with.

    Attributes:
        id: Which version it is.
        directory: Where it lies.
        description: What its manifest says.
    """

    id: ServableId
    directory: Path
    description: ModelDescription


def verify_members(source: RepositorySource, ensemble: ModelDescription) -> tuple[VerifiedMember, ...]:
    """Finds an ensemble's members and compares every file of theirs with its sum. Reads files: any thread.

    Args:
        source: The repository; nothing outside of it is read.
        ensemble: What the ensemble's manifest says.

    Returns:
        The members, in the order of the manifest.

    Raises:
        ModelRejectedError: MEMBER_OUTSIDE, MEMBER_REPEATED, MEMBER_MISSING, MEMBER_CHANGED, MEMBER_INVALID,
            MEMBER_IS_ENSEMBLE, MEMBER_LABELS_DIFFER or MEMBER_INPUT_DIFFERS.
    """
    ids = [member.id for member in ensemble.members]
    for position, each in enumerate(ids):
        if each in ids[:position]:
            raise _refusal("MEMBER_REPEATED", each, "is named twice. Publish the ensemble anew with it once.")
    return tuple(_verify_member(source, member, ensemble) for member in ensemble.members)


def member_invalid(member: ServableId, cause: str, message: str) -> ModelRejectedError:
    """Makes the refusal of an ensemble for a member that could not be served by itself either.

    Args:
        member: The member.
        cause: Why it could not, as its own refusal names it.
        message: The same as a sentence.
    """
    return _refusal(
        "MEMBER_INVALID",
        member,
        f"cannot be served ({cause}): {message} Restore it from where it was published.",
        cause=cause,
    )


def _verify_member(source: RepositorySource, member: EnsembleMember, ensemble: ModelDescription) -> VerifiedMember:
    directory = _directory(source, member.id)
    try:
        content = (directory / MANIFEST_PATH).read_bytes()
    except OSError:
        raise _refusal(
            "MEMBER_MISSING",
            member.id,
            "is not in the model folder, or may not be read. Put it there, then touch the ensemble's manifest for "
            "another try.",
        ) from None
    if hashlib.sha256(content).hexdigest() != member.manifest_sum:
        raise _refusal(
            "MEMBER_CHANGED",
            member.id,
            "is not the version that the ensemble was published with. Restore it, or publish the ensemble anew.",
        )
    try:
        manifest = decode_manifest(content)
        _check_folder(manifest, member.id)
        verify_files(directory, manifest)
    except ModelRejectedError as error:
        raise member_invalid(member.id, error.reason, error.message) from error
    _check_fit(member.id, manifest.description, ensemble)
    return VerifiedMember(member.id, directory, manifest.description)


def _directory(source: RepositorySource, member: ServableId) -> Path:
    directory = source.directory(member)
    # The name is looked at first: a path made of an unknown one must not even be resolved.
    named_well = MODEL_NAME.fullmatch(member.name) is not None and member.version >= 1
    if not named_well or not directory.resolve().is_relative_to(source.root.resolve()):
        raise _refusal(
            "MEMBER_OUTSIDE",
            member,
            "is not a version in the model folder, and nothing else is read. Publish the ensemble anew with "
            "members from the folder.",
        )
    return directory


def _check_folder(manifest: Manifest, member: ServableId) -> None:
    if (manifest.name, manifest.version) != (member.name, member.version):
        raise ModelRejectedError(
            "MANIFEST_MISMATCH", f"The manifest is that of {manifest.name}/{manifest.version}."
        )


def _check_fit(member: ServableId, description: ModelDescription, ensemble: ModelDescription) -> None:
    if description.members:
        raise _refusal(
            "MEMBER_IS_ENSEMBLE", member, "is an ensemble itself. Publish the ensemble anew with its members."
        )
    if description.labels != ensemble.labels:
        raise _refusal(
            "MEMBER_LABELS_DIFFER",
            member,
            f"scores {', '.join(description.labels)}, the ensemble {', '.join(ensemble.labels)}. Publish it anew "
            "with members of the same labels in the same order.",
        )
    takes, wanted = description.input, ensemble.input
    if (takes.height, takes.width) != (wanted.height, wanted.width):
        raise _refusal(
            "MEMBER_INPUT_DIFFERS",
            member,
            f"takes faces of {takes.height}x{takes.width} pixels, the ensemble {wanted.height}x{wanted.width}. "
            "Publish it anew with members of the same input.",
        )


def _refusal(reason: str, member: ServableId, message: str, **facts: object) -> ModelRejectedError:
    return ModelRejectedError(reason, f"Member {member} {message}", member=member, **facts)
