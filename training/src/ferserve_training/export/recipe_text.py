"""The recipe of a run in words."""

from ferserve_training.loop.records import RunSettings


def recipe_text(settings: RunSettings) -> str:
    """Name the recipe and all that the user changed in it."""
    changes = [*(["smoke"] if settings.smoke else []), *settings.overrides]
    if settings.teacher is not None:
        changes.append("with a teacher")
    return f"{settings.recipe} ({', '.join(changes)})" if changes else settings.recipe
