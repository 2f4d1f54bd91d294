"""Loads the nets that a run learns from: other runs, or exported versions."""

from collections.abc import Callable
from pathlib import Path

from ferserve_training.errors import RunError
from ferserve_training.framework.choose import Tensor, framework, require_tensorflow
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.trained import Trained, load_trained
from ferserve_training.nets.folding import fold
from ferserve_training.nets.spec import NetSpec

Teacher = Callable[[Tensor], Tensor]
"""From views, float32 [N, 48, 48, 1] grey levels, to logits, float32 [N, 7]."""


def load_teacher(folder: Path, precision: str = "float32") -> Teacher:
    """Load a teacher.

    Args:
        folder: Of a run, or of a version in a model repository.
        precision: What a run's maps are computed in, 'float32' or 'bfloat16'; the answers hardly change.

    Raises:
        RunError: It holds neither.
        TrainingError: It is an exported version, and TensorFlow does not compute.
    """
    if (folder / "run.json").exists():
        return _run_teacher(load_trained(RunDirectory(folder)), precision)
    if not (folder / "saved_model.pb").exists():
        raise RunError(f"{folder}: holds neither a run nor an exported version to learn from")
    require_tensorflow(f"{folder} is an exported version; learning from it, other than from a run,")
    from ferserve_training.loop.tensorflow_teacher import version_teacher  # noqa: PLC0415  # may not be there

    return version_teacher(folder)


def _run_teacher(trained: Trained, precision: str) -> Teacher:
    net = trained.recipe.net
    if not isinstance(net, NetSpec) or framework().NAME != "tensorflow":
        classifier = trained.classifier
        return lambda views: classifier(views, training=False)
    from ferserve_training.loop.tensorflow_teacher import folded_teacher  # noqa: PLC0415  # may not be there

    return folded_teacher(fold(trained.model, net), precision)
