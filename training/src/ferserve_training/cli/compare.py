"""Defines `ferserve-train compare`."""

from rich.console import Console
from rich.table import Table

from ferserve_training.cli.options import (
    DataOption,
    FractionOption,
    FractionSeedOption,
    ModelArgument,
    PrivateTestOption,
    scored_split,
)
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.evaluation.intervals import wilson_interval
from ferserve_training.evaluation.mcnemar import mcnemar


def compare(  # one parameter an option
    first: ModelArgument,
    second: ModelArgument,
    *,
    data: DataOption,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
    private_test: PrivateTestOption = False,
) -> None:
    """Score two runs or versions on the same faces and tell whether they differ by more than chance."""
    scored = scored_split(private_test=private_test)
    faces = load_data(DataChoice(data, validation_fraction, validation_seed, scored)).public_test

    # TensorFlow takes seconds to import; a rejected data set should not wait for it.
    from ferserve_training.report.evaluated_model import load_model  # noqa: PLC0415

    models = [load_model(folder) for folder in (first, second)]
    hits = [model.logits_of(faces.images).argmax(axis=1) == faces.labels for model in models]
    table = Table("net", "accuracy", "95 % interval", "only this one hits", box=None)
    test = mcnemar(hits[0], hits[1])
    for model, right, alone in zip(models, hits, (test.only_first, test.only_second), strict=True):
        low, high = wilson_interval(int(right.sum()), len(right))
        table.add_row(model.name, f"{right.mean():.2%}", f"{low:.2%} to {high:.2%}", f"{alone:,}")
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"McNemar's exact test on {len(faces):,} faces: p = {test.p_value:.3g}")
