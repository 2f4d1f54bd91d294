"""Names the recipe of a run in words."""

from pathlib import Path

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
    if settings.bank is not None:
        changes.append(f"with a bank of {settings.bank_rounds} views")
    if settings.non_faces is not None:
        changes.append("with pictures without people")
    for blend in settings.blends:
        share, _, folder = blend.partition(" of ")
        changes.append(f"blended with {share} of {'/'.join(Path(folder).parts[-2:])}")
    return f"{settings.recipe} ({', '.join(changes)})" if changes else settings.recipe
