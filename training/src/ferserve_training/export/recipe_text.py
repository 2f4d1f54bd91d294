"""Names the recipe of a run in words."""

from ferserve_training.loop.records import RunSettings


def recipe_text(settings: RunSettings) -> str:
    """Name the recipe and all that the user changed in it."""
    changes = [*(["smoke"] if settings.smoke else []), *settings.overrides]
    if settings.teachers:
        changes.append(
            "with a teacher" if len(settings.teachers) == 1 else f"with {len(settings.teachers)} teachers"
        )
    if settings.votes is not None:
        changes.append("with the votes of FER+")
    return f"{settings.recipe} ({', '.join(changes)})" if changes else settings.recipe
