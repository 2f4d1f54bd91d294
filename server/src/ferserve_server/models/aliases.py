"""Maps alias names, such as `stable` and `canary`, to versions. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ferserve_server.domain.names import MODEL_NAME, VERSION, is_alias
from ferserve_server.domain.servable import ServableId

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Aliases:
    """Holds the aliases of all models, each mapping model to alias to version.

    Attributes:
        fixed: Those of the settings. They win, and do not change while the server runs.
        chosen: Those that were set while a server ran.
    """

    fixed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    chosen: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def of(self, model: str) -> dict[str, int]:
        """Returns the version behind each alias of a model, by alias."""
        return dict(sorted({**self.chosen.get(model, {}), **self.fixed.get(model, {})}.items()))

    def is_fixed(self, model: str, alias: str) -> bool:
        """Returns whether the settings define this alias."""
        return alias in self.fixed.get(model, {})

    def models(self) -> set[str]:
        """Returns the models that have an alias."""
        return {model for each in (self.fixed, self.chosen) for model, aliases in each.items() if aliases}

    def named(self) -> set[ServableId]:
        """Returns every version with an alias."""
        return {ServableId(model, version) for model in self.models() for version in self.of(model).values()}

    def changed(self, model: str, alias: str, version: int | None) -> Aliases:
        """Returns these aliases with one of `chosen` changed, or without it if `version` is None."""
        kept = {name: held for name, held in self.chosen.get(model, {}).items() if name != alias}
        if version is not None:
            kept[alias] = version
        others = {name: held for name, held in self.chosen.items() if name != model}
        return Aliases(self.fixed, {**others, model: kept} if kept else others)


def unpinned_version(ready: Collection[int], stable: int | None) -> int | None:
    """Selects the version of a model that answers requests without a version.

    It is the stable one. While that is not ready, the newest older one is used, but never a newer one: keeping
    newer versions from all clients is the purpose of the alias. Without the alias it is the newest.

    Args:
        ready: Versions that answer requests.
        stable: The version behind the alias `stable`, or None.

    Returns:
        The version, or None if there is none that may answer.
    """
    return max((version for version in ready if stable is None or version <= stable), default=None)


def parse_aliases(lines: Sequence[str]) -> dict[str, dict[str, int]]:
    """Parses `MODEL:NAME=VERSION`, one per line.

    Returns:
        Version by alias by model.

    Raises:
        ValueError: A line is not that, or sets an alias again.
    """
    found: dict[str, dict[str, int]] = {}
    for line in lines:
        target, _, version = (part.strip() for part in line.partition("="))
        model, colon, alias = (part.strip() for part in target.partition(":"))
        if not (colon and MODEL_NAME.fullmatch(model) and VERSION.fullmatch(version)):
            raise ValueError(f"{line!r} is not MODEL:NAME=VERSION, such as fer-nano:stable=3")
        if not is_alias(alias):
            raise ValueError(
                f"{line!r}: an alias is 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', with a letter, not {alias!r}"
            )
        if alias in found.get(model, {}):
            raise ValueError(f"alias {alias} of {model} is set twice; set it once")
        found.setdefault(model, {})[alias] = int(version)
    return found
