"""Exports a run: folds, checks, writes, describes and publishes its net."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from ferserve_training.errors import RunError
from ferserve_training.evaluation.robustness import Robustness
from ferserve_training.evaluation.scores import Evaluation
from ferserve_training.export.complete import complete_version
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.golden import GOLDEN_COUNT
from ferserve_training.export.manifest import OnnxFacts, Provenance, VersionFacts
from ferserve_training.export.onnx_model import ONNX_PATH, check_onnx, onnx_model_of, write_onnx
from ferserve_training.export.onnx_weights import OnnxWeights
from ferserve_training.export.publish import publish_version
from ferserve_training.export.recipe_text import recipe_text
from ferserve_training.export.saved_model import (
    LOGITS_NAME,
    NOT_A_FACE_NAME,
    PROBABILITIES_NAME,
    run_saved_model,
    write_saved_model,
)
from ferserve_training.export.smoke_repository import check_takes_smoke_runs
from ferserve_training.framework.choose import framework
from ferserve_training.loop.scoring import score
from ferserve_training.loop.trained import Trained
from ferserve_training.nets.folding import fold
from ferserve_training.nets.spec import NetSpec

_CHECKED_COUNT: Final = 256
_ALLOWED_DIFFERENCE: Final = 1e-4
"""Of logits; float32 rounding makes 9.2e-6 of it, for fer-nano version 1 on PublicTest."""
_PROTOCOL: Final = (
    "{split}, single forward pass, no test-time augmentation; {kept}; temperature fitted on the same split"
)


def export_version(
    trained: Trained,
    evaluation: Evaluation,
    model_repo: Path,
    *,
    onnx: OnnxWeights | None = OnnxWeights.FLOAT32,
    robustness: Robustness | None = None,
    parent: Robustness | None = None,
) -> Path:
    """Publish a net as the next version of the model that its recipe names.

    Args:
        trained: The net.
        evaluation: Its figures.
        model_repo: Root of the model repository.
        onnx: What `model.onnx` stores weights as; None writes no such file.
        robustness: Figures on degraded faces for the card, of the same weights; None where not measured.
        parent: The same of the version before, or None.

    Returns:
        The folder of the version.

    Raises:
        RunError: The run is unfinished, a smoke run is to go beside real models, the figures are those of other
            weights, or the exported net computes
            other logits than the trained one, or the ONNX file other probabilities than the exported net.
        TrainingError: The repository cannot be written, or the net has a layer that no ONNX is written for.
    """
    if evaluation.weights_sha256 != trained.weights_sha256:
        raise RunError("the evaluation is of an earlier checkpoint: run 'ferserve-train evaluate' again")
    if trained.settings.smoke:
        check_takes_smoke_runs(model_repo)
    progress = trained.history[-1].progress
    if progress < 1:
        raise RunError(f"the run stands at {progress:.0%}: finish it with 'ferserve-train train --resume'")
    model_folder = model_repo / trained.recipe.name
    with publish_version(model_folder) as draft:
        net = trained.recipe.net
        served = fold(trained.model, net) if isinstance(net, NetSpec) else trained.model
        write_saved_model(served, evaluation.temperature, draft.folder)
        faces = draw_faces(_CHECKED_COUNT)
        probabilities, logits = run_saved_model(draft.folder, faces)
        difference = float(np.abs(logits - score(trained.classifier, faces)).max())
        if not difference <= _ALLOWED_DIFFERENCE:  # written so that NaN fails too
            raise RunError(f"the exported net differs from the trained one by {difference:.2g} in a logit")
        onnx_facts = None
        if onnx is not None:
            path = draft.folder / ONNX_PATH
            path.parent.mkdir()
            write_onnx(onnx_model_of(served, evaluation.temperature, trained.recipe.name, onnx), path)
            difference = check_onnx(path, faces[:GOLDEN_COUNT], probabilities[:GOLDEN_COUNT], onnx)
            onnx_facts = OnnxFacts(onnx, difference)
        facts = replace(
            _facts(trained, evaluation, draft.version),
            onnx=onnx_facts,
            robustness=robustness,
            parent=parent,
        )
        complete_version(facts, draft.folder, faces, probabilities)
    return model_folder / str(draft.version)


def _facts(trained: Trained, evaluation: Evaluation, version: int) -> VersionFacts:
    settings = trained.settings
    has_not_a_face = trained.recipe.optimisation.not_a_face_share > 0
    seconds = sum(record.seconds for record in trained.history)
    # What trained it and what exported it may differ; both are said.
    made_by, versions = settings.framework, framework().versions()
    if versions != made_by:
        made_by = f"{made_by}; exported by {versions}"
    return VersionFacts(
        trained.recipe.name,
        version,
        datetime.now(UTC),
        trained.recipe.net,
        evaluation,
        Provenance(
            recipe_text(settings),
            settings.seed,
            len(trained.history),
            round(seconds / 60, 1),
            settings.data_sha256,
            settings.training_count,
            _PROTOCOL.format(split=evaluation.split, kept=_kept_text(trained)),
            made_by,
            smoke=settings.smoke,
        ),
        outputs=(PROBABILITIES_NAME, LOGITS_NAME, *([NOT_A_FACE_NAME] if has_not_a_face else [])),
    )


def _kept_text(trained: Trained) -> str:
    """Say which weights are scored; picking them by the scored faces flatters the figures, and is said."""
    optimisation = trained.recipe.optimisation
    weights = "averaged weights" if optimisation.ema_decay else "weights"
    if optimisation.keeps == "last" and optimisation.stop_after is None:
        return f"{weights} of the last epoch, none picked"
    epoch = "an epoch" if optimisation.keeps == "last" else "the best epoch"
    return f"{weights} of {epoch} picked by the same faces"
