"""`ferserve models`: what models a server has."""

from rich.table import Column, Table

from ferserve_client.cli.connection import Connection, JsonOption, connected
from ferserve_client.cli.records import model_record
from ferserve_client.cli.speaking import print_json, print_table

_SHOWN = ("public_test_accuracy", "public_test_twin_free_accuracy", "public_test_ece")
"""What the table has room for; `--json` has all."""


@connected
def models(connection: Connection, *, json: JsonOption = False) -> int:
    """List the server's models, their versions and what was measured of them."""
    with connection.open() as client:
        found = client.models()
    if json:
        for model in found:
            print_json(model_record(model))
        return 0
    table = Table("model", "version", "state", "input", "parameters", Column("measured", overflow="fold"))
    for model in found:
        name = f"{model.name} (default)" if model.is_default else model.name
        for version in model.versions:
            state = str(version.state) if version.error is None else f"{version.state}: {version.error.message}"
            size = f"{version.input_height} x {version.input_width}" if version.input_height else ""
            parameters = "" if version.parameter_count is None else f"{version.parameter_count:,}"
            metrics = ", ".join(
                f"{metric} {version.metrics[metric]:.3f}" for metric in _SHOWN if metric in version.metrics
            )
            table.add_row(name, str(version.version), state, size, parameters, metrics)
    print_table(table)
    return 0
