"""Rolls new versions out as canaries, and rolls them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from ferserve_server.domain import metrics
from ferserve_server.domain.canary import CanaryResult, Verdict
from ferserve_server.domain.control_errors import NoCanaryError, NoOlderVersionError
from ferserve_server.domain.errors import AliasFixedError, VersionNotReadyError
from ferserve_server.domain.names import CANARY, STABLE
from ferserve_server.domain.servable import ServableId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ferserve_server.domain.canary import ShadowStatistics
    from ferserve_server.models.canary.canary import CanaryRun
    from ferserve_server.models.canary.traffic_split import Canaries
    from ferserve_server.models.version_loader import VersionLoader

log = structlog.get_logger(__name__)

ROLLED_BACK: Final = "CANARY_ROLLED_BACK"
"""Rejection reason of a version that was rolled back, automatically or by an operator."""


class Rollout:
    """Moves the aliases `stable` and `canary`. Event loop only.

    Args of the constructor:
        loader: The versions.
        canaries: The canaries, or None if new versions are active at once.
        load: Loads a version and keeps it; see `ModelManager.load`.
        save: Keeps what was decided; raises StateNotSavedError.
        save_if_possible: Does the same, without an error.
    """

    def __init__(
        self,
        loader: VersionLoader,
        canaries: Canaries | None,
        load: Callable[[ServableId], Awaitable[None]],
        save: Callable[[], Awaitable[None]],
        save_if_possible: Callable[[], Awaitable[None]],
    ) -> None:
        self._loader = loader
        self._routes = loader.routes
        self._canaries = canaries
        self._load = load
        self._save = save
        self._save_if_possible = save_if_possible
        self._last: dict[str, tuple[int, Verdict]] = {}

    def admit(self, servable_id: ServableId) -> None:
        """Makes a validated version the canary, if it is newer than the stable one.

        Without the alias `stable`, the active version gets it, and the first version of a model at once.
        """
        name, version = servable_id.name, servable_id.version
        if self._canaries is None or not self._canaries.has_canaries(name):
            return
        aliases = self._routes.aliases.of(name)
        serving = self._routes.serving(name)
        if STABLE not in aliases:
            aliases[STABLE] = serving.id.version if serving else version
            self._routes.set_alias(name, STABLE, aliases[STABLE])
        if version > max(aliases[STABLE], aliases.get(CANARY, 0)):
            self._routes.set_alias(name, CANARY, version)
            log.info("canary started", model=name, version=version, stable=aliases[STABLE])

    async def judge(self) -> None:
        """Judges every canary run, and carries out the verdicts if the settings allow it."""
        if self._canaries is None:
            return
        decided = False
        for run in self._canaries.running():
            report = run.report()
            verdict = report.verdict
            if report.shadow is not None:
                self._record_shadow(run.canary.id, report.shadow)
            self._report_if_changed(run, verdict)
            if verdict.result is CanaryResult.WAIT or not run.auto:
                continue
            decided = True
            if verdict.result is CanaryResult.PROMOTE:
                self._promote(run.model, run.canary.id.version)
            else:
                self._reject(run.canary.id, f"It was tried and rolled back, {verdict.reason}: {verdict.text}.")
        if decided:
            await self._save_if_possible()

    async def promote(self, name: str, version: int | None) -> None:
        """Promotes the canary to the stable version.

        Args:
            name: The model.
            version: The version expected to be the canary; None: any. One that is stable
                already stays so.

        Raises:
            NoCanaryError: There is no canary, or it is another version.
            AliasFixedError: The settings define one of the aliases.
            VersionNotReadyError: The canary is not active.
        """
        aliases = self._free_aliases(name)
        canary = aliases.get(CANARY)
        if version is not None and version == aliases.get(STABLE):
            return
        if canary is None or version not in {None, canary}:
            raise NoCanaryError(name, version, canary)
        if not self._loader.is_ready(ServableId(name, canary)):
            raise VersionNotReadyError(name, canary, CANARY)
        self._publish_verdict(name, canary, Verdict(CanaryResult.PROMOTE, "OPERATOR", "an operator promoted it"))
        self._promote(name, canary)
        await self._save()

    async def roll_back(
        self, name: str, version: int | None, usable: Mapping[ServableId, str], now: float
    ) -> None:
        """Rolls back the canary; without one, rolls back the active version to the one before it.

        Args:
            name: The model.
            version: The version that the caller wants removed; None: any. One that was rolled back
                already
                stays so.
            usable: The versions in the model folder.
            now: The event loop's time, in seconds.

        Raises:
            NoCanaryError: It is neither the canary nor the active version.
            NoOlderVersionError: There is no version to roll back to.
            AliasFixedError: The settings define one of the aliases.
            FerserveError: The older version may not be served.
        """
        aliases = self._free_aliases(name)
        canary = aliases.get(CANARY)
        if version is not None and ServableId(name, version) in self._loader.rejected:
            return
        text = "An operator rolled it back. It comes again when its manifest changes or it is loaded by call."
        if canary is not None and version in {None, canary}:
            self._publish_verdict(
                name, canary, Verdict(CanaryResult.ROLL_BACK, "OPERATOR", "an operator rolled it back")
            )
            self._reject(ServableId(name, canary), text)
            await self._save()
            return
        serving = self._routes.serving(name)
        if serving is None or version not in {None, serving.id.version}:
            raise NoCanaryError(name, version, canary)
        bad = serving.id
        older = [each for each in usable if each.name == name and each.version < bad.version]
        unusable = self._loader.failed.waiting(usable, now)
        older = [each for each in older if each not in unusable]
        older += [ServableId(name, each) for each in self._routes.ready_versions(name) if each < bad.version]
        if not older:
            raise NoOlderVersionError(name, bad.version)
        previous = max(older)
        await self._load(previous)
        self._routes.set_alias(name, STABLE, previous.version)
        log.info("stable rolled back", model=name, version=previous.version, rejected=bad.version)
        self._reject(bad, text)
        await self._save()

    def _promote(self, name: str, version: int) -> None:
        self._routes.set_alias(name, STABLE, version)
        self._routes.set_alias(name, CANARY, None)
        self._last.pop(name, None)
        log.info("canary promoted", model=name, version=version)

    def _reject(self, servable_id: ServableId, message: str) -> None:
        if self._routes.aliases.of(servable_id.name).get(CANARY) == servable_id.version:
            self._routes.set_alias(servable_id.name, CANARY, None)
            self._last.pop(servable_id.name, None)
        self._loader.reject(servable_id, ROLLED_BACK, message)
        log.warning("version rolled back", servable=str(servable_id), why=message)

    def _free_aliases(self, name: str) -> dict[str, int]:
        for alias in (STABLE, CANARY):
            if self._routes.aliases.is_fixed(name, alias):
                raise AliasFixedError(name, alias)
        return self._routes.aliases.of(name)

    def _record_shadow(self, servable_id: ServableId, figures: ShadowStatistics) -> None:
        if self._canaries is not None:
            gauge, labels = metrics.CANARY_SHADOW_DIFFERENCE, servable_id.labels
            self._canaries.recorder.set(gauge, figures.mean_difference, *labels, "mean")
            self._canaries.recorder.set(gauge, figures.largest_difference, *labels, "largest")

    def _report_if_changed(self, run: CanaryRun, verdict: Verdict) -> None:
        """Reports a verdict when it differs from the last one."""
        version = run.canary.id.version
        last = self._last.get(run.model)
        if last is None or (last[0], last[1].result, last[1].reason) != (version, verdict.result, verdict.reason):
            self._last[run.model] = version, verdict
            self._publish_verdict(run.model, version, verdict)

    def _publish_verdict(self, model: str, version: int, verdict: Verdict) -> None:
        log.info(
            "canary judged",
            model=model,
            version=version,
            result=verdict.result.value,
            reason=verdict.reason,
            figures=verdict.text,
        )
        if self._canaries is not None:
            labels = (model, verdict.result.value, verdict.reason)
            self._canaries.recorder.count(metrics.CANARY_VERDICTS, *labels)
