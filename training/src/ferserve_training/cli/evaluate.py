"""`ferserve-train evaluate`."""

from rich.console import Console
from rich.table import Table

from ferserve_training.cli.options import DataOption, FractionOption, FractionSeedOption, RunArgument
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.errors import RunError
from ferserve_training.evaluation.record import write_evaluation
from ferserve_training.evaluation.scores import Evaluation
from ferserve_training.evaluation.scores import evaluate as compute
from ferserve_training.evaluation.twins import find_twin_free


def evaluate(
    run_dir: RunArgument,
    data: DataOption,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Score a run's weights on PublicTest or your own validation faces; keep the figures and the temperature."""
    faces = load_data(DataChoice(data, validation_fraction, validation_seed))

    # TensorFlow takes seconds to import; a refused data set should not wait for it.
    from ferserve_training.loop.learner import score  # noqa: PLC0415
    from ferserve_training.loop.run_directory import RunDirectory  # noqa: PLC0415
    from ferserve_training.loop.trained import load_trained  # noqa: PLC0415

    trained = load_trained(RunDirectory(run_dir))
    if faces.sha256 != trained.settings.data_sha256:
        raise RunError(f"{run_dir}: was trained on other data than {data}; twins could not be told")
    is_twin_free = find_twin_free(faces.public_test.images, faces.training.images)
    logits = score(trained.classifier, faces.public_test.images)
    evaluation = compute(logits, faces.public_test.labels, is_twin_free, trained.weights_sha256, faces.split)
    write_evaluation(evaluation, run_dir)
    Console().print(_table(evaluation))


def _table(evaluation: Evaluation) -> Table:
    table = Table("figure", "value", box=None, title=f"{evaluation.split}, {evaluation.face_count:,} faces")
    for name, value in evaluation.metrics.items():
        table.add_row(name.removeprefix(evaluation.prefix).replace("_", " "), f"{value:.4f}")
    table.add_row("twin-free faces", f"{evaluation.twin_free_count:,}")
    table.add_row("temperature", f"{evaluation.temperature:.4f}")
    return table
