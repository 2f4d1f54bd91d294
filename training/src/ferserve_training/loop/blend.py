"""Blends the weights of two nets of one recipe into a finished run.

A net that was trained on from another has given up some of that one's skill for its own; a mean of both weights
has more of both than either ("robust fine-tuning", Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.errors import RunError
from ferserve_training.loop.records import Checkpoint
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.trained import load_trained
from ferserve_training.nets.build import build_net
from ferserve_training.nets.folding import FoldedNet, fold
from ferserve_training.nets.spec import NetSpec
from ferserve_training.nets.stored_net import read_folded
from ferserve_training.nets.unfolding import STATISTICS_FACE_COUNT, unfold

_HEADS: Final = ("vote_kernel", "vote_bias", "not_a_face_kernel", "not_a_face_bias")


def blend_run(run: Path, other: Path, share: float, faces: LabelledFaces, target: RunDirectory) -> None:
    """Write the blend of a run and another net as a run of its own, to be evaluated and exported like any.

    Kernels and biases are averaged after batch norm is folded into them. A head that one of the nets lacks is the
    other's.

    Args:
        run: Folder of a finished run of a net of convolutions.
        other: Folder of a run or of an exported version of the same net.
        share: Weight of the other net, above 0, below 1.
        faces: The training split.
        target: Where the new run lives.

    Raises:
        RunError: The run is unfinished, a net is missing or another than that of the run, or the target exists.
    """
    trained = load_trained(RunDirectory(run))
    net = trained.recipe.net
    if not isinstance(net, NetSpec):
        raise RunError(f"{run}: {trained.recipe.name} cannot be blended, only nets of convolutions can")
    if trained.history[-1].progress < 1:
        raise RunError(f"{run}: finish it with 'ferserve-train train --resume' first")
    own = fold(trained.model, net)
    blended = _blended(own, _read(other, net), share)
    settings = replace(trained.settings, blends=(*trained.settings.blends, f"{share:g} of {other.resolve()}"))
    model = build_net(
        net,
        seed=0,
        with_votes=settings.votes is not None,
        with_not_a_face=trained.recipe.optimisation.not_a_face_share > 0,
    )
    unfold(blended, model, faces.spread(STATISTICS_FACE_COUNT).images)
    target.create(settings)
    state = {f"weights/{index}": np.asarray(value) for index, value in enumerate(model.weights)}
    target.save(Checkpoint(trained.history, state))


def _read(folder: Path, net: NetSpec) -> FoldedNet:
    if not (folder / "run.json").exists():
        return read_folded(folder, net)
    trained = load_trained(RunDirectory(folder))
    if trained.recipe.net != net:
        raise RunError(f"{folder}: holds another net")
    return fold(trained.model, net)


def _blended(own: FoldedNet, other: FoldedNet, share: float) -> FoldedNet:
    def mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.asarray((1.0 - share) * first + share * second, np.float32)

    heads = {}
    for name in _HEADS:
        first, second = getattr(own, name), getattr(other, name)
        heads[name] = mean(first, second) if first is not None and second is not None else first
        if first is None:
            heads[name] = second
    return FoldedNet(
        own.spec,
        tuple(map(mean, own.kernels, other.kernels)),
        tuple(map(mean, own.biases, other.biases)),
        **heads,
    )
