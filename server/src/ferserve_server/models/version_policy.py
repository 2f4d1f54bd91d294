"""Selects the versions that should be in memory. Pure and idempotent, like TensorFlow Serving's policies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ferserve_server.domain.names import MODEL_NAME, VERSION
from ferserve_server.domain.servable import ServableId

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_MAX_VERSIONS: Final = 16
"""Maximum number of versions that a policy may name, because each costs memory and a warm-up."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Selects the newest `count` usable versions, 1 to 16."""

    count: int = 1

    def __str__(self) -> str:
        return f"latest:{self.count}"


@dataclass(frozen=True, slots=True)
class Specific:
    """Selects these versions, rising, and no others."""

    versions: tuple[int, ...]

    def __str__(self) -> str:
        return f"specific:{','.join(map(str, self.versions))}"


@dataclass(frozen=True, slots=True)
class All:
    """Selects every usable version."""

    def __str__(self) -> str:
        return "all"


VersionPolicy = Latest | Specific | All


@dataclass(frozen=True, slots=True)
class Policies:
    """Holds the policy of each model: its own in `by_model`, or `default`."""

    default: VersionPolicy = field(default_factory=Latest)
    by_model: Mapping[str, VersionPolicy] = field(default_factory=dict)

    def of(self, model: str) -> VersionPolicy:
        """Returns the policy of a model."""
        return self.by_model.get(model, self.default)


def parse_policies(lines: Sequence[str]) -> dict[str, VersionPolicy]:
    """Parses `MODEL=latest:2`, `MODEL=specific:1,3` and `MODEL=all`, one per line.

    Raises:
        ValueError: A line is none of these, or names a model again.
    """
    policies: dict[str, VersionPolicy] = {}
    for line in lines:
        model, equals, text = (part.strip() for part in line.partition("="))
        if not equals or not MODEL_NAME.fullmatch(model):
            raise ValueError(f"{line!r} is not MODEL=POLICY, such as fer-nano=latest:2")
        if model in policies:
            raise ValueError(f"model {model} has two policies; give it one")
        policies[model] = _parse_policy(line, text)
    return policies


def _parse_policy(line: str, text: str) -> VersionPolicy:
    kind, _, given = text.partition(":")
    numbers = [part.strip() for part in given.split(",")]
    if text == "all":
        return All()
    if all(VERSION.fullmatch(each) for each in numbers):
        versions = sorted(set(map(int, numbers)))
        if kind == "latest" and len(numbers) == 1 and versions[0] <= _MAX_VERSIONS:
            return Latest(versions[0])
        if kind == "specific" and len(versions) <= _MAX_VERSIONS:
            return Specific(tuple(versions))
    raise ValueError(
        f"{line!r}: use latest:N with N from 1 to {_MAX_VERSIONS}, "
        f"specific:V,... with at most {_MAX_VERSIONS} versions from 1, or all"
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """Lists the next actions: load `load`, in order; unload `unload`. `missing` is required but not on disk."""

    load: tuple[ServableId, ...] = ()
    unload: tuple[ServableId, ...] = ()
    missing: tuple[ServableId, ...] = ()


def plan(
    on_disk: Mapping[ServableId, str],
    ready: Collection[ServableId],
    failed: Mapping[ServableId, str],
    policies: Policies,
    *,
    held: Collection[ServableId] = (),
    excluded: Collection[ServableId] = (),
) -> Plan:
    """Decides which versions to load and which to unload.

    Required are the usable versions that a model's policy names, and those in `held`, which are loaded first. A
    version that failed is retried only when its manifest has changed since. An active version is unloaded only
    when as many others as the policy requires are ready, or when it was removed from disk and another one is
    ready: the last good version of a model stays, and what is in `held` always does.

    Args:
        on_disk: Versions in the repository, and the checksums of their manifests.
        ready: Versions that answer requests.
        failed: Versions that could not be loaded, and their manifests' checksums when that was tried.
        policies: Version policy of each model.
        held: Versions that are required whatever the policy selects: those with an alias, or requested by an
            operator.
        excluded: Versions that the policy may not load: those an operator unloaded. `held` wins over it.
    """
    load: list[ServableId] = []
    unload: list[ServableId] = []
    missing = {each for each in held if each not in on_disk and each not in ready}
    for model in sorted({each.name for each in [*on_disk, *ready, *held]} | set(policies.by_model)):
        policy = policies.of(model)
        if isinstance(policy, Specific):
            named = {ServableId(model, version) for version in policy.versions}
            missing |= {each for each in named - set(excluded) if each not in on_disk and each not in ready}
        usable = [
            each for each in _newest_first(model, on_disk) if each in ready or failed.get(each) != on_disk[each]
        ]
        first = [each for each in usable if each in held]
        chosen = _chosen(policy, [each for each in usable if each not in excluded])
        load += [each for each in dict.fromkeys([*first, *chosen]) if each not in ready]
        kept = {each for each in ready if each.name == model and (each in chosen or each in held)}
        room = policy.count - len(kept.intersection(chosen)) if isinstance(policy, Latest) else 0
        stays, surplus = bool(kept), []
        for each in _newest_first(model, ready):
            if each in kept:
                continue
            if room > 0 and each not in excluded and (each in on_disk or not kept):
                room -= 1
                stays = True
            else:
                surplus.append(each)
        unload += surplus if stays else surplus[1:]
    return Plan(tuple(load), tuple(unload), tuple(sorted(missing)))


def _chosen(policy: VersionPolicy, usable: Sequence[ServableId]) -> Sequence[ServableId]:
    """Selects a policy's versions from a model's usable ones, given newest first."""
    if isinstance(policy, Latest):
        return usable[: policy.count]
    if isinstance(policy, Specific):
        return [each for each in usable if each.version in policy.versions]
    return usable


def _newest_first(model: str, servables: Iterable[ServableId]) -> list[ServableId]:
    return sorted((each for each in servables if each.name == model), key=lambda each: -each.version)
