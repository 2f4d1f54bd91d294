"""Registers the sub-commands, and turns known errors into messages."""

import os
import sys
from importlib.metadata import version
from types import MappingProxyType
from typing import Annotated, Final

import typer

from ferserve_training.cli.audit import audit
from ferserve_training.cli.bank import bank
from ferserve_training.cli.blend import blend
from ferserve_training.cli.bom import bom
from ferserve_training.cli.compare import compare
from ferserve_training.cli.crop import crop
from ferserve_training.cli.data_check import data_check
from ferserve_training.cli.evaluate import evaluate
from ferserve_training.cli.export import export
from ferserve_training.cli.merge import merge
from ferserve_training.cli.quantize import quantize
from ferserve_training.cli.recipes import list_recipes
from ferserve_training.cli.report import report
from ferserve_training.cli.results import results
from ferserve_training.cli.robustness import robustness
from ferserve_training.cli.sign import sign
from ferserve_training.cli.train import train
from ferserve_training.errors import TrainingError

# TensorFlow and Keras read these when they are imported, which the commands do late.
_ENVIRONMENT: Final = MappingProxyType(
    {
        "KERAS_BACKEND": "tensorflow",
        # TensorFlow turns oneDNN on by itself only where there is AVX-512. Training steps on an AMD EPYC with AVX2
        # took 1.3 (fer-base) to 1.5 (fer-nano) times as much processor time without it.
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
)

# By the module that is missing: what the user can do.
_EXTRAS: Final = MappingProxyType(
    {
        "tensorflow": "install ferserve-training[cpu] or [gpu], or train on JAX with KERAS_BACKEND=jax",
        "onnxruntime": "install ferserve-training[int8]",
        "jax": "install ferserve-training[jax] or [jax-gpu], or leave KERAS_BACKEND out",
    }
)

app = typer.Typer(
    name="ferserve-train",
    help="Train, evaluate and export the models that ferserve serves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(version("ferserve-training"))
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    """Train, evaluate and export the models that ferserve serves."""


app.command("list")(list_recipes)
app.command("crop")(crop)
app.command("data-check")(data_check)
app.command("bank")(bank)
app.command("train")(train)
app.command("blend")(blend)
app.command("evaluate")(evaluate)
app.command("robustness")(robustness)
app.command("export")(export)
app.command("merge")(merge)
app.command("quantize")(quantize)
app.command("sign")(sign)
app.command("bom")(bom)
app.command("report")(report)
app.command("compare")(compare)
app.command("audit")(audit)
app.command("results")(results)


def _check_backend(name: str) -> None:
    """Reject a framework that no net is trained with, before Keras tries to import it.

    Raises:
        TrainingError: `name` is neither of the two.
    """
    if name not in ("tensorflow", "jax"):
        raise TrainingError(
            f"KERAS_BACKEND is {name}; nets are trained with tensorflow or jax: set one of them, or leave it out"
        )


def main() -> None:
    """Run the command line; a `TrainingError` becomes one line on stderr and exit code 1."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        _check_backend(os.environ["KERAS_BACKEND"])
        app()
    except TrainingError as error:
        print(f"ferserve-train: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"ferserve-train: {error}; {extra}", file=sys.stderr)
        raise SystemExit(1) from None
