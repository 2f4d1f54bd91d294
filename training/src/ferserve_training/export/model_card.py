"""Writes `assets.extra/MODEL_CARD.md`: intended use, limits and figures of a version."""

from collections.abc import Sequence
from typing import Final

from ferserve_training.export.manifest import VersionFacts
from ferserve_training.labels import LABELS

MODEL_CARD_PATH: Final = "assets.extra/MODEL_CARD.md"

INTENDED_USE: Final = """\
## Intended use

Sorts the *apparent* expression of a face, cut out and scaled to 48x48 grey pixels, into seven classes. Made for
research, for demonstrations and for tools whose users know that it runs and may reject it.

## Limits

- It sees what a face looks like, not what a person feels. Expression and feeling often differ.
- **Not for work or school.** The EU's AI Act, Art. 5(1)(f), forbids inferring the emotions of people in the
  workplace and in education, but for medical and safety reasons. Elsewhere emotion recognition is a high-risk use
  (Annex III) and people must be notified of it (Art. 50(3)).
- Not for diagnosis, hiring, policing, or telling lies from truth.
- No figures by age, sex or skin tone: FER-2013 carries no such labels. Audit it on your own labelled faces first.
- Profiles, covered faces and things that are no face get seven probabilities too: find the face first, and heed
  `not_a_face` where the version has it.
"""

_DATA: Final = """\
## Data

FER-2013 (Goodfellow et al. 2013), Training split only; PublicTest chose the temperature and gives the figures
below. The labels are noisy: ten people who labelled the same images again for FER+ agree with them by majority on
63 % of the images, and on 13 % of those labelled fear; people reach about 65 %. 8 % of the test images are exact
copies of training images; *twin-free* figures leave copies and near-copies out. The images have no clear licence:
this version ships weights only, and `golden.npz` holds faces drawn by formula.
"""

_OWN_DATA: Final = """\
## Data

A set of labelled faces that is not FER-2013; its digest is below. A part of it that was not learnt from chose the
temperature and gives the figures. *Twin-free* figures leave out copies and near-copies of training faces.
"""


def model_card_of(facts: VersionFacts) -> str:
    """Write the card of a version in Markdown.

    Args:
        facts: What the manifest says too.
    """
    return "\n".join(
        (
            _head(facts),
            INTENDED_USE,
            _data(facts),
            _figures(facts),
            _confusion(facts),
            _robustness(facts),
            _training(facts),
        )
    )


def _data(facts: VersionFacts) -> str:
    return _DATA if facts.evaluation.split == "PublicTest" else _OWN_DATA


def _head(facts: VersionFacts) -> str:
    onnx = (
        f"`model.onnx` stores weights as {facts.onnx.weights}; its probabilities of the golden faces differ "
        f"from the SavedModel's by {facts.onnx.largest_difference:.1g} at most.\n"
        if facts.onnx
        else ""
    )
    return f"""\
# {facts.name}, version {facts.version}

{facts.net.mac_count:,} multiply-accumulates a face, {facts.net.parameter_count:,} parameters. \
Input `faces`: uint8 [N, 48, 48, 1], grey, unscaled;
{facts.net.preprocessing}. Outputs: `probabilities` (temperature applied) and `logits`, \
float32 [N, 7],
in the order {", ".join(LABELS)}.
{onnx}"""


def _figures(facts: VersionFacts) -> str:
    evaluation = facts.evaluation
    metrics = {name.removeprefix(evaluation.prefix): value for name, value in evaluation.metrics.items()}
    interval = f"{metrics['accuracy_low_95']:.2%} to {metrics['accuracy_high_95']:.2%}"
    twin_free = f"Accuracy on the {evaluation.twin_free_count:,} twin-free faces"
    rows = [
        ("Accuracy", f"{metrics['accuracy']:.2%} (95 % Wilson interval {interval})"),
        (twin_free, f"{metrics['twin_free_accuracy']:.2%}"),
        ("Macro-F1", f"{metrics['macro_f1']:.4f}"),
        ("Expected calibration error, 15 bins", f"{metrics['ece']:.4f}"),
        ("the same before temperature scaling", f"{metrics['ece_uncalibrated']:.4f}"),
        ("Temperature", f"{evaluation.temperature:.4f}"),
        ("Uncertain below a top probability of", f"{evaluation.decisions.uncertain_threshold:.2f}"),
        ("Not a face above", f"{evaluation.decisions.not_a_face_threshold:.2f}"),
        *((f"Recall, {label}", f"{metrics[f'recall_{label}']:.2%}") for label in LABELS),
    ]
    held_back = " The held-back PrivateTest split was not read." if evaluation.split == "PublicTest" else ""
    return "\n".join(
        (
            f"## Figures on {evaluation.split} ({evaluation.face_count:,} faces)",
            "",
            f"Measured: {facts.provenance.evaluation}.{held_back}",
            "",
            *_table(("figure", "value"), rows),
        )
    )


def _confusion(facts: VersionFacts) -> str:
    rows = [
        (label, *(str(count) for count in row))
        for label, row in zip(LABELS, facts.evaluation.confusion, strict=True)
    ]
    return "\n".join(("Called (columns) against labelled (rows):", "", *_table(("", *LABELS), rows)))


def _robustness(facts: VersionFacts) -> str:
    """Write the table of degraded faces, beside the version before where that is known, and of non-faces."""
    measured, parent = facts.robustness, facts.parent
    if measured is None:
        return ""
    before = {} if parent is None else {each.name: f"{each.accuracy:.2%}" for each in parent.degraded}
    rows = [
        (
            each.name,
            f"{each.face_count:,}",
            f"{each.accuracy:.2%} ({each.low_95:.2%} to {each.high_95:.2%})",
            f"{each.accuracy - each.accuracy_unchanged:+.2%}",
            f"{each.ece:.4f}",
            *([] if parent is None else [before.get(each.name, "")]),
        )
        for each in measured.degraded
    ]
    head = ("faces", "count", "accuracy (95 %)", "against the same unchanged", "calibration error")
    lines = [
        f"## Degraded faces of {measured.split}",
        "",
        *_table((*head, *([] if parent is None else [parent.model])), rows),
    ]
    if measured.non_faces:
        kinds = [
            (each.name, f"{each.image_count:,}", f"{each.roc_auc:.4f}", f"{each.rejected_share:.1%}")
            for each in measured.non_faces
        ]
        lines += [
            f"## Not a face, above {measured.not_a_face_threshold:.2f}",
            "",
            f"{measured.rejected_faces_share:.2%} of the faces are called none. Images that are none:",
            "",
            *_table(("images", "count", "ROC area", "called no face"), kinds),
        ]
    return "\n".join(lines)


def _training(facts: VersionFacts) -> str:
    made = facts.provenance
    rows = [
        ("recipe", made.recipe),
        ("seed", str(made.seed)),
        ("epochs", str(made.epochs)),
        ("minutes", f"{made.minutes:.1f}"),
        ("training faces", f"{made.train_count:,}"),
        ("data, SHA-256", f"`{made.data_sha256}`"),
        ("framework", made.framework),
    ]
    return "\n".join(("## Training", "", *_table(("what", "value"), rows)))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]
