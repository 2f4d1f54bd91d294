"""The files of a report: `report.json`, `report.html` and `MODEL_CARD.md`."""

import base64
import html
import json
from pathlib import Path
from typing import Final

from ferserve_training.atomic import write_atomically
from ferserve_training.data.faces import LabelledFaces
from ferserve_training.errors import TrainingError
from ferserve_training.export.model_card import INTENDED_USE
from ferserve_training.labels import LABELS
from ferserve_training.report import pictures
from ferserve_training.report.findings import Findings
from ferserve_training.report.tables import Table, tables_of

_STYLE: Final = """\
body { font-family: sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left; }
img { max-width: 100%; }
"""


def write_report(findings: Findings, faces: LabelledFaces, folder: Path) -> None:
    """Write the three files. The HTML file shows faces that were called wrongly: it is for its reader alone.

    Args:
        findings: What to say.
        faces: The faces scored.
        folder: Where; made if missing.

    Raises:
        TrainingError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "report.json", (json.dumps(findings.summary, indent=2) + "\n").encode())
        write_atomically(folder / "MODEL_CARD.md", card_of(findings).encode())
        write_atomically(folder / "report.html", _page(findings, faces).encode())
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written ({error.strerror})") from error


def card_of(findings: Findings) -> str:
    """Write the card in Markdown; it holds no faces."""
    tables = (table.markdown() for table in tables_of(findings.summary))
    return "\n".join((f"# {_title(findings)}\n", INTENDED_USE, *tables, _provenance(findings), ""))


def _page(findings: Findings, faces: LabelledFaces) -> str:
    summary = findings.summary
    images = {
        "Confusion": pictures.confusion_picture(summary["confusion"]),
        "ROC": pictures.roc_picture(findings.probabilities, faces.labels),
        "Reliability": pictures.reliability_picture(summary["reliability"]),
        "Risk and coverage": pictures.coverage_picture(summary["risk_coverage"]),
    }
    if summary["history"]:
        images["Learning curves"] = pictures.curves_picture(summary["history"])
    if findings.mistakes:
        picked = list(findings.mistakes)
        images["Surest mistakes"] = pictures.mistakes_picture(
            faces.images[picked], [_caption(findings, faces, index) for index in picked]
        )
    title = html.escape(_title(findings))
    body = [f"<h1>{title}</h1>", f"<p>{html.escape(_provenance(findings))}</p>"]
    body += [_html_table(table) for table in tables_of(summary)]
    body += [_html_picture(name, image) for name, image in images.items()]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _title(findings: Findings) -> str:
    return f"{findings.summary['subject']} on {findings.summary['split']}"


def _provenance(findings: Findings) -> str:
    same = "the data that it was trained on" if findings.summary["trained_on_this_data"] else "other data"
    return (
        "One forward pass a face, no test-time augmentation; intervals are 95 % (Wilson). "
        f"Against its training: {same}. Data, SHA-256: {findings.summary['data_sha256']}."
    )


def _caption(findings: Findings, faces: LabelledFaces, index: int) -> str:
    called = int(findings.probabilities[index].argmax())
    share = findings.probabilities[index, called]
    return f"{LABELS[called]} {share:.0%}\nlabelled {LABELS[int(faces.labels[index])]}"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return f"<h2>{html.escape(table.title)}</h2><table><tr>{head}</tr>{rows}</table>"


def _html_picture(name: str, image: bytes) -> str:
    data = base64.b64encode(image).decode()
    return f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'
