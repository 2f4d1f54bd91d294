"""Defines `ferserve-train list`."""

from rich.console import Console
from rich.table import Table

from ferserve_training.recipes.catalog import RECIPES


def list_recipes() -> None:
    """List the recipes."""
    table = Table("recipe", "MACs a face", "parameters", "epochs", "what it is", "published", box=None)
    for recipe in RECIPES.values():
        table.add_row(
            recipe.name,
            f"{recipe.net.mac_count:,}",
            f"{recipe.net.parameter_count:,}",
            str(recipe.epochs),
            recipe.summary,
            recipe.published or "",
        )
    Console().print(table)
