"""Writes the files of a report: `report.json`, `report.html` and `MODEL_CARD.md`."""

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
from ferserve_training.report.report_data import ReportData
from ferserve_training.report.tables import Table, tables_of
from ferserve_training.report.verdict import verdict_on

_STYLE: Final = """\
body { font-family: sans-serif; max-width: 110rem; margin: 2rem auto; padding: 0 1.5rem; }
.columns { columns: 34rem; column-gap: 2.5rem; } .columns section { break-inside: avoid; }
.verdict { font-size: 1.25rem; max-width: 60rem; }
table { border-collapse: collapse; } td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left; }
img { max-width: 100%; }
"""


def write_report(report_data: ReportData, faces: LabelledFaces, folder: Path) -> None:
    """Write the three files. The HTML file shows faces that were called wrongly: it is for its reader alone.

    Args:
        report_data: What to say.
        faces: The faces scored.
        folder: Where; made if missing.

    Raises:
        TrainingError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "report.json", (json.dumps(report_data.summary, indent=2) + "\n").encode())
        write_atomically(folder / "MODEL_CARD.md", card_of(report_data).encode())
        write_atomically(folder / "report.html", _page(report_data, faces).encode())
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written ({error.strerror})") from error


def card_of(report_data: ReportData) -> str:
    """Write the card in Markdown; it holds no faces."""
    tables = (table.markdown() for table in tables_of(report_data.summary))
    return "\n".join(
        (
            f"# {_title(report_data)}\n",
            f"{verdict_on(report_data.summary)}\n",
            INTENDED_USE,
            *tables,
            _provenance(report_data),
            "",
        )
    )


def _page(report_data: ReportData, faces: LabelledFaces) -> str:
    summary = report_data.summary
    images = {
        "Confusion": pictures.confusion_picture(summary["confusion"]),
        "ROC": pictures.roc_picture(report_data.probabilities, faces.labels),
        "Reliability": pictures.reliability_picture(summary["reliability"]),
        "Risk and coverage": pictures.coverage_picture(summary["risk_coverage"]),
    }
    if summary["history"]:
        images["Learning curves"] = pictures.curves_picture(summary["history"])
    if report_data.mistakes:
        picked = list(report_data.mistakes)
        images["Surest mistakes"] = pictures.mistakes_picture(
            faces.images[picked], [_caption(report_data, faces, index) for index in picked]
        )
    title = html.escape(_title(report_data))
    body = [
        f"<h1>{title}</h1>",
        f'<p class="verdict">{html.escape(verdict_on(summary))}</p>',
        f"<p>{html.escape(_provenance(report_data))}</p>",
        '<div class="columns">',
        *(_html_table(table) for table in tables_of(summary)),
        *(_html_picture(name, image) for name, image in images.items()),
        "</div>",
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _title(report_data: ReportData) -> str:
    return f"{report_data.summary['model']} on {report_data.summary['split']}"


def _provenance(report_data: ReportData) -> str:
    same = "the data that it was trained on" if report_data.summary["trained_on_this_data"] else "other data"
    return (
        "One forward pass a face, no test-time augmentation; intervals are 95 % (Wilson). "
        f"Against its training: {same}. Data, SHA-256: {report_data.summary['data_sha256']}."
    )


def _caption(report_data: ReportData, faces: LabelledFaces, index: int) -> str:
    called = int(report_data.probabilities[index].argmax())
    share = report_data.probabilities[index, called]
    return f"{LABELS[called]} {share:.0%}\nlabelled {LABELS[int(faces.labels[index])]}"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return f"<section><h2>{html.escape(table.title)}</h2><table><tr>{head}</tr>{rows}</table></section>"


def _html_picture(name: str, image: bytes) -> str:
    data = base64.b64encode(image).decode()
    alt = html.escape(name)
    return f'<section><h2>{alt}</h2><img alt="{alt}" src="data:image/png;base64,{data}"></section>'
