"""Records the events of an observer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Recorder:
    """Implements `domain.ports.InferenceObserver`, `RoutingObserver`, `CanaryObserver` and `CallObserver`."""

    batch_sizes: list[int] = field(default_factory=list)
    dispatch_reasons: list[str] = field(default_factory=list)
    padded_counts: list[int] = field(default_factory=list)
    failed_batch_sizes: list[int] = field(default_factory=list)
    rejections: list[str] = field(default_factory=list)
    cancellations: list[str] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)
    routes: dict[str, tuple[dict[str, int], int | None]] = field(default_factory=dict)
    shares: list[tuple[str, float]] = field(default_factory=list)
    trial_requests: list[tuple[str, str]] = field(default_factory=list)
    verdicts: list[tuple[str, str]] = field(default_factory=list)
    shadow_faces: list[tuple[int, int, int]] = field(default_factory=list)
    shadow_differences: list[float] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    stream_answers: list[tuple[str, str]] = field(default_factory=list)

    def batch_executed(self, batch) -> None:
        self.batch_sizes.append(batch.face_count)
        self.dispatch_reasons.append(batch.dispatch_reason.value)
        self.padded_counts.append(batch.padded_count)

    def batch_failed(self, servable, *, face_count) -> None:
        self.failed_batch_sizes.append(face_count)

    def rejected(self, reason) -> None:
        self.rejections.append(reason)

    def cancelled(self, stage) -> None:
        self.cancellations.append(stage)

    def state_changed(self, servable, state) -> None:
        self.states.append((str(servable), state.value))

    def routed(self, model, aliases, serving_version) -> None:
        self.routes[model] = (dict(aliases), serving_version)

    def canary_share(self, model, share) -> None:
        self.shares.append((model, share))

    def canary_answered(self, servable, outcome) -> None:
        self.trial_requests.append((str(servable), outcome))

    def canary_judged(self, model, verdict) -> None:
        self.verdicts.append((verdict.result.value, verdict.reason))

    def shadow_compared(self, servable, *, agreed, differed, dropped) -> None:
        self.shadow_faces.append((agreed, differed, dropped))

    def shadow_figures(self, servable, figures) -> None:
        self.shadow_differences.append(figures.largest_difference)

    def call_started(self, method) -> None:
        pass

    def call_ended(self, method, code, seconds) -> None:
        self.ended.append((method, code))

    def stream_answered(self, method, outcome) -> None:
        self.stream_answers.append((method, outcome))
