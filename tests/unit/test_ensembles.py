"""An ensemble scores the mean of its members, or is refused for a reason of its own."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_server.backends.ensemble import EnsembleLoader, EnsembleServable
from ferserve_server.backends.fake import FakeServable
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import ModelSpec, Precision, ServableId, ServableState
from ferserve_server.models.manifest import read_manifest
from ferserve_server.models.source import RepositorySource
from support.fake_clock import settle
from support.fake_ensembles import (
    MANIFEST,
    ShiftedLoader,
    ShiftedServable,
    publish_fake_ensemble,
    publish_shifted,
    shifted_scores,
)
from support.fake_models import DESCRIPTION, rewrite_manifest
from support.manager_bench import Shop

if TYPE_CHECKING:
    from pathlib import Path

    from ferserve_server.domain.ports import Servable

CROPS = np.random.default_rng(3).integers(0, 256, (5, 48, 48, 1), np.uint8)


@pytest.fixture
def loader() -> ShiftedLoader:
    return ShiftedLoader()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two models of one version each, that score differently."""
    publish_shifted(tmp_path, "fer-base", 1)
    publish_shifted(tmp_path, "fer-small", 2)
    return tmp_path


def _load(repository: Path, folder: Path, loader: ShiftedLoader) -> Servable:
    manifest = read_manifest(folder)
    ensembles = EnsembleLoader(loader, RepositorySource(repository))
    return ensembles.load(ServableId(manifest.name, manifest.version), folder, manifest.description)


def _refusal(repository: Path, folder: Path, loader: ShiftedLoader) -> ModelRejectedError:
    with pytest.raises(ModelRejectedError) as caught:
        _load(repository, folder, loader)
    return caught.value


def test_an_ensemble_scores_the_mean_of_its_members(repository: Path, loader: ShiftedLoader) -> None:
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    ensemble = _load(repository, folder, loader)
    scores = ensemble.predict(CROPS)
    expected = (shifted_scores(CROPS, 1) + shifted_scores(CROPS, 2)) / 2
    assert scores.dtype == np.float32
    assert np.abs(scores - expected).max() <= 1e-7
    assert str(ensemble.id) == "fer-ensemble/1"


def test_every_member_weighs_the_same_and_their_order_does_not_show() -> None:
    members = [ShiftedServable(ServableId("fer-base", number), DESCRIPTION) for number in (1, 1, 2, 5)]
    ways = [
        EnsembleServable(ServableId("fer-ensemble", 1), DESCRIPTION, order).predict(CROPS)
        for order in (members, members[::-1])
    ]
    assert np.array_equal(*ways)
    assert ways[0][0].max() == pytest.approx((0.7 + 0.7 + 0.05 + 0.05) / 4)


def test_a_version_that_is_no_ensemble_is_left_to_the_engine(repository: Path, loader: ShiftedLoader) -> None:
    servable = _load(repository, repository / "fer-base" / "1", loader)
    assert loader.servables == [servable]


def test_members_run_on_no_more_threads_than_the_least_of_them_stands() -> None:
    running, most, lock = [0], [0], threading.Lock()
    validation = threading.Barrier(2)

    def enter(_: object) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        validation.wait(timeout=30)  # both threads of the ensemble are in the same member now
        with lock:
            running[0] -= 1
        validation.wait(timeout=30)

    members = [
        FakeServable(ServableId("fer-base", 1), DESCRIPTION, executor_count=2, before_predict=enter),
        FakeServable(ServableId("fer-small", 2), DESCRIPTION, executor_count=3),
    ]
    ensemble = EnsembleServable(ServableId("fer-ensemble", 1), DESCRIPTION, members)
    assert ensemble.executor_count == 2
    with ThreadPoolExecutor(ensemble.executor_count) as threads:
        list(threads.map(lambda _: ensemble.predict(CROPS), range(20)))
    assert most == [2]
    assert [len(member.batch_sizes) for member in members] == [20, 20]


def test_closing_closes_every_member_also_after_one_that_cannot_be_closed() -> None:
    class Sticky(FakeServable):
        def close(self) -> None:
            super().close()
            raise RuntimeError("stuck")

    members = [kind(ServableId("fer-base", 1), DESCRIPTION) for kind in (FakeServable, Sticky, FakeServable)]
    with pytest.raises(RuntimeError, match="stuck"):
        EnsembleServable(ServableId("fer-ensemble", 1), DESCRIPTION, members).close()
    assert all(member.closed for member in members)


def test_a_member_that_fails_on_a_batch_fails_it_for_the_ensemble() -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no")

    members = [
        FakeServable(ServableId("fer-base", 1), DESCRIPTION),
        FakeServable(ServableId("fer-small", 2), DESCRIPTION, before_predict=fail),
    ]
    with pytest.raises(RuntimeError, match="no"):
        EnsembleServable(ServableId("fer-ensemble", 1), DESCRIPTION, members).predict(CROPS)


def test_an_empty_ensemble_is_refused(repository: Path, loader: ShiftedLoader) -> None:
    folder = publish_fake_ensemble(repository, [])
    assert _refusal(repository, folder, loader).reason == "ENSEMBLE_EMPTY"


@pytest.mark.parametrize(
    "member",
    [
        "../fer-base/1",
        "../../secret/1",
        "/etc/1",
        "./fer-base/1",
        ".hidden/1",
        "a/b/1",
        "/1",
        "fer-base/0",
        "..\0/1",
    ],
)
def test_a_member_is_looked_for_in_the_model_folder_only(
    repository: Path, loader: ShiftedLoader, member: str
) -> None:
    name, _, version = member.rpartition("/")
    named = [{"name": name, "version": int(version), "manifest_sha256": "0" * 64}]
    folder = publish_fake_ensemble(repository, ["fer-base/1"], changes={"members": named})
    refusal = _refusal(repository, folder, loader)
    assert refusal.reason == "MEMBER_OUTSIDE"
    assert "model folder" in refusal.message


def test_a_member_that_is_a_link_to_the_outside_is_refused(repository: Path, loader: ShiftedLoader) -> None:
    outside = repository.with_name(f"{repository.name}-outside")
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    (repository / "fer-base").rename(outside)
    (repository / "fer-base").symlink_to(outside)
    assert _refusal(repository, folder, loader).reason == "MEMBER_OUTSIDE"


def test_a_member_that_is_not_there_is_named(repository: Path, loader: ShiftedLoader) -> None:
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-large/7"])
    refusal = _refusal(repository, folder, loader)
    assert (refusal.reason, refusal.metadata) == ("MEMBER_MISSING", {"member": "fer-large/7"})
    assert "touch" in refusal.message
    assert not loader.servables  # nothing is loaded before all were looked at


def test_a_member_that_was_published_anew_since_is_refused(repository: Path, loader: ShiftedLoader) -> None:
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    rewrite_manifest(repository / "fer-small" / "2", {"mac_count": 1})
    refusal = _refusal(repository, folder, loader)
    assert (refusal.reason, refusal.metadata) == ("MEMBER_CHANGED", {"member": "fer-small/2"})


def test_a_member_with_a_flipped_byte_is_refused_with_the_file_at_fault(
    repository: Path, loader: ShiftedLoader
) -> None:
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    path = repository / "fer-small" / "2" / "saved_model.pb"
    path.write_bytes(b"N" + path.read_bytes()[1:])
    refusal = _refusal(repository, folder, loader)
    assert refusal.reason == "MEMBER_INVALID"
    assert refusal.metadata == {"member": "fer-small/2", "cause": "FILE_CHANGED"}
    assert "saved_model.pb" in refusal.message


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"{", "MANIFEST_INVALID"), (b"\xff", "MANIFEST_INVALID")],
    ids=["cut off", "no text"],
)
def test_a_member_whose_manifest_says_nothing_is_refused(
    repository: Path, loader: ShiftedLoader, content: bytes, cause: str
) -> None:
    (repository / "fer-small" / "2" / MANIFEST).write_bytes(content)
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    refusal = _refusal(repository, folder, loader)
    assert (refusal.reason, refusal.metadata["cause"]) == ("MEMBER_INVALID", cause)


def test_a_member_that_lies_in_another_ones_folder_is_refused(repository: Path, loader: ShiftedLoader) -> None:
    rewrite_manifest(repository / "fer-small" / "2", {"version": 3})
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    refusal = _refusal(repository, folder, loader)
    assert (refusal.reason, refusal.metadata["cause"]) == ("MEMBER_INVALID", "MANIFEST_MISMATCH")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ModelRejectedError("SIGNATURE_MISMATCH", "There is no output."), "SIGNATURE_MISMATCH"),
        (RuntimeError("internal/path"), "LOAD_FAILED"),
    ],
    ids=["refused", "crashed"],
)
def test_a_member_that_the_engine_cannot_load_is_refused_and_those_before_it_are_closed(
    repository: Path, loader: ShiftedLoader, error: Exception, cause: str
) -> None:
    loader.broken["fer-small/2"] = error
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    refusal = _refusal(repository, folder, loader)
    assert (refusal.reason, refusal.metadata["cause"]) == ("MEMBER_INVALID", cause)
    assert "internal/path" not in refusal.message
    assert [servable.closed for servable in loader.servables] == [True]


def test_an_ensemble_of_ensembles_is_refused(repository: Path, loader: ShiftedLoader) -> None:
    publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"], "inner", 1)
    folder = publish_fake_ensemble(repository, ["fer-base/1", "inner/1"])
    refusal = _refusal(repository, folder, loader)
    assert (refusal.reason, refusal.metadata) == ("MEMBER_IS_ENSEMBLE", {"member": "inner/1"})


def test_a_member_named_twice_is_refused(repository: Path, loader: ShiftedLoader) -> None:
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-base/1"])
    assert _refusal(repository, folder, loader).reason == "MEMBER_REPEATED"


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"labels": ["happy", "sad"]}, "MEMBER_LABELS_DIFFER", "happy, sad"),
        (
            {"input": {"name": "faces", "dtype": "uint8", "height": 64, "width": 48, "channels": 1}},
            "MEMBER_INPUT_DIFFERS",
            "64x48",
        ),
    ],
    ids=["labels", "input"],
)
def test_a_member_unlike_the_ensemble_is_refused_with_the_difference(
    repository: Path, loader: ShiftedLoader, changes: dict[str, object], reason: str, words: str
) -> None:
    rewrite_manifest(repository / "fer-small" / "2", changes)
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    refusal = _refusal(repository, folder, loader)
    assert refusal.reason == reason
    assert words in refusal.message


def _shop(repository: Path, loader: ShiftedLoader) -> Shop:
    return Shop(repository, EnsembleLoader(loader, RepositorySource(repository)))


async def test_an_ensemble_passes_the_gate_and_answers_beside_its_members(
    repository: Path, loader: ShiftedLoader
) -> None:
    publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"], "fer-nano", 1)
    shop = _shop(repository, loader)
    await shop.manager.refresh()
    with shop.manager.acquire(ModelSpec()) as lease:
        assert [str(member.id) for member in lease.description.members] == ["fer-base/1", "fer-small/2"]
    by_itself, of_the_ensemble = loader.loads_of("fer-base/1")
    assert {1, 4} <= set(by_itself.batch_sizes)
    assert {1, 4} <= set(of_the_ensemble.batch_sizes)


async def test_an_ensemble_whose_mean_is_not_the_published_one_is_refused(
    repository: Path, loader: ShiftedLoader
) -> None:
    folder = publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"])
    document = json.loads((folder / MANIFEST).read_text())
    rewrite_manifest(folder, {"members": document["members"][:1]})
    shop = _shop(repository, loader)
    await shop.manager.refresh()
    (status,) = shop.manager.model("fer-ensemble").versions
    assert status.failure is not None
    assert status.failure.reason == "GOLDEN_MISMATCH"


async def test_an_ensemble_answers_on_when_its_members_are_no_longer_in_force(
    repository: Path, loader: ShiftedLoader
) -> None:
    publish_fake_ensemble(repository, ["fer-base/1", "fer-small/2"], "fer-nano", 1)
    shop = _shop(repository, loader)
    await shop.manager.refresh()
    publish_shifted(repository, "fer-base", 3)  # takes over from fer-base/1, which is unloaded
    await shop.manager.refresh()
    await settle()
    assert shop.states("fer-base") == {3: ServableState.READY, 1: ServableState.UNLOADED}
    # The ensemble is the default model, which is loaded first.
    of_the_ensemble, by_itself = loader.loads_of("fer-base/1")
    assert of_the_ensemble is not by_itself
    assert not of_the_ensemble.closed
    with shop.manager.acquire(ModelSpec("fer-nano")) as lease:
        scored = await lease.scorer.score(CROPS)
    assert scored.scores.shape == (5, 7)


class Recastable(FakeServable):
    """Can be with_precision, unless it is told not to; remembers what was made of it."""

    def __init__(self, *, refuse: bool = False, precision: Precision = Precision.FLOAT32) -> None:
        super().__init__(ServableId("member", 1), DESCRIPTION)
        self.precision = precision
        self.refuse = refuse
        self.made: list[Recastable] = []

    def with_precision(self, precision: Precision) -> FakeServable:
        if self.refuse:
            return super().with_precision(precision)
        self.made.append(Recastable(precision=precision))
        return self.made[-1]


def test_an_ensemble_in_bfloat16_has_all_its_members_in_bfloat16() -> None:
    members = [Recastable(), Recastable()]
    ensemble = EnsembleServable(ServableId("e", 1), DESCRIPTION, members)
    with_precision = ensemble.with_precision(Precision.BFLOAT16)
    assert (ensemble.precision, with_precision.precision) == (Precision.FLOAT32, Precision.BFLOAT16)
    with_precision.close()
    assert [member.made[0].closed for member in members] == [True, True]
    assert [member.closed for member in members] == [False, False]


def test_an_ensemble_of_a_member_that_has_no_bfloat16_has_none_and_closes_what_was_made() -> None:
    able = Recastable()
    ensemble = EnsembleServable(ServableId("e", 1), DESCRIPTION, [able, Recastable(refuse=True)])
    with pytest.raises(ModelRejectedError):
        ensemble.with_precision(Precision.BFLOAT16)
    assert able.made[0].closed
