"""Which versions should be in memory. Pure, stateless and idempotent, as TensorFlow Serving's policies are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ferserve_server.domain.servable import ServableId


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do next: load `load`, in order; then let go of `unload`."""

    load: tuple[ServableId, ...] = ()
    unload: tuple[ServableId, ...] = ()


def plan(
    on_disk: Mapping[ServableId, float],
    ready: Collection[ServableId],
    failed: Mapping[ServableId, float],
    versions_per_model: int,
) -> Plan:
    """Says which versions to load and which to let go.

    The newest `versions_per_model` usable versions of each model are wanted. A version that failed is tried again
    only when its manifest has changed since. A version in force is let go only when enough newer ones are ready,
    or when it is gone from disk and another one is ready: the last good version of a model stays.

    Args:
        on_disk: Versions in the repository and when their manifests changed, in seconds since 1970.
        ready: Versions that answer requests.
        failed: Versions that could not be loaded, and their manifests' time when that was tried.
        versions_per_model: How many versions of a model to keep, 1 or more.
    """
    load: list[ServableId] = []
    unload: list[ServableId] = []
    for model in sorted({servable.name for servable in [*on_disk, *ready]}):
        usable = [
            servable
            for servable in _newest_first(model, on_disk)
            if servable in ready or failed.get(servable) != on_disk[servable]
        ]
        wanted = usable[:versions_per_model]
        load += [servable for servable in wanted if servable not in ready]
        kept = [servable for servable in wanted if servable in ready]
        room = versions_per_model - len(kept)
        for servable in _newest_first(model, ready):
            if servable in kept:
                continue
            if room > 0 and (servable in on_disk or not kept):
                room -= 1
                continue
            unload.append(servable)
    return Plan(tuple(load), tuple(unload))


def _newest_first(model: str, servables: Iterable[ServableId]) -> list[ServableId]:
    return sorted((each for each in servables if each.name == model), key=lambda each: -each.version)
