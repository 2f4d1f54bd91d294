"""Holds the settings that a user asks for, and checks them against those of a run that is resumed."""

from dataclasses import dataclass

from ferserve_training.errors import RunError
from ferserve_training.loop.records import RunSettings
from ferserve_training.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Holds the user's settings; None means not given.

    Attributes:
        seed: Of the run.
        epochs: Limit.
        max_minutes: Limit, wall clock over all sittings.
        smoke: Whether to make a smoke run.
        overrides: `name=value` each, in the recipe.
        teachers: Folders of runs or versions to learn from too.
        votes: File of the votes of FER+.
        start: Folder of a run or version to go on from.
        bank: Folder of a view bank.
        non_faces: Folder of pictures without people.
    """

    seed: int | None
    epochs: int | None
    max_minutes: float | None
    smoke: bool
    overrides: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    votes: str | None = None
    start: str | None = None
    bank: str | None = None
    non_faces: str | None = None

    def settle(self, recipe: Recipe, data_sha256: str, training_count: int, framework: str) -> RunSettings:
        """Fill in what was not said: seed 0, and the recipe's epochs where no limit was given."""
        epochs = recipe.epochs if self.epochs is None and self.max_minutes is None else self.epochs
        return RunSettings(
            recipe.name,
            self.seed or 0,
            epochs,
            self.max_minutes,
            self.smoke,
            data_sha256,
            training_count,
            framework,
            self.overrides,
            self.teachers,
            self.votes,
            "float32" if recipe.optimisation.precision == "auto" else recipe.optimisation.precision,
            self.start,
            self.bank,
            non_faces=self.non_faces,
        )

    def check_resumes(self, stored: RunSettings, recipe_name: str, data_sha256: str) -> None:
        """Reject to continue a run as something that it is not.

        Raises:
            RunError: Names the first setting that differs.
        """
        pairs: tuple[tuple[str, object, object], ...] = (
            ("recipe", recipe_name, stored.recipe),
            ("seed", self.seed, stored.seed),
            ("epochs", self.epochs, stored.epochs),
            ("max-minutes", self.max_minutes, stored.max_minutes),
            ("smoke", self.smoke or None, stored.smoke),
            ("settings", self.overrides or None, stored.overrides),
            ("teachers", self.teachers or None, stored.teachers),
            ("votes", self.votes, stored.votes),
            ("start", self.start, stored.start),
            ("bank", self.bank, stored.bank),
            ("non-faces", self.non_faces, stored.non_faces),
            ("data (SHA-256)", data_sha256, stored.data_sha256),
        )
        for what, asked, kept in pairs:
            if asked is not None and asked != kept:
                raise RunError(f"cannot resume: the run's {what} is {kept}, not {asked}")
