"""`ferserve models`: what models a server has."""

from rich.table import Table

from ferserve_client.cli.connection import Connection, JsonOption, connected
from ferserve_client.cli.records import model_record
from ferserve_client.cli.speaking import print_json, print_table

_SHOWN = {
    "PublicTest accuracy": "public_test_accuracy",
    "without twins": "public_test_twin_free_accuracy",
    "ECE": "public_test_ece",
}
"""Columns that the table has room for, and the metrics in them; `--json` has all."""


@connected
def models(connection: Connection, *, json: JsonOption = False) -> int:
    """List the server's models, their versions and what was measured of them."""
    with connection.open() as client:
        found = client.models()
    if json:
        for model in found:
            print_json(model_record(model))
        return 0
    table = Table("model", "version", "state", "input", "parameters", *_SHOWN)
    for model in found:
        name = f"{model.name} (default)" if model.is_default else model.name
        for version in model.versions:
            state = str(version.state) if version.error is None else f"{version.state}: {version.error.message}"
            size = f"{version.input_height} x {version.input_width}" if version.input_height else ""
            parameters = "" if version.parameter_count is None else f"{version.parameter_count:,}"
            measured = [version.metrics.get(metric) for metric in _SHOWN.values()]
            figures = ["" if value is None else f"{value:.3f}" for value in measured]
            number = " ".join([str(version.version), *version.aliases])
            table.add_row(name, number, state, size, parameters, *figures)
    print_table(table)
    return 0
