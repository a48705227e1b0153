"""Writes the HTML report of an evaluation, and its plots as PNG files."""

from __future__ import annotations

from pathlib import Path

from ..atomic_file import write_file
from ..evaluation import Evaluation
from ..evaluation.ground_truth import instances_by_category
from .ap_section import ap_section
from .class_section import class_section
from .confusion_section import confusion_section
from .error_section import error_section
from .gallery_section import gallery_section
from .headline import headline
from .html import element, page
from .miss_section import miss_section
from .plot_style import to_png
from .plots import draw_figures
from .provenance_section import provenance_section, seconds_section
from .quality_section import quality_section
from .sample_section import sample_section
from .text import counted

REPORT = "report.html"
PLOTS = "plots"  # folder of PNG files


def write_report(
    evaluation: Evaluation,
    output_dir: Path,
    image_root: Path | None = None,
    title: str = "Evaluation",
) -> dict[str, bytes]:
    """Writes ``report.html``, and its plots to ``plots/*.png``.

    Args:
        evaluation: evaluation of any model; sections that do not apply are left out.
        output_dir: created if missing.
        image_root: folder with the images of the dataset. Masks are drawn on a plain background
            if it is ``None`` or an image is missing.
        title: title of the report.

    Returns:
        The content of each plot's PNG file, by name.
    """
    output_dir = Path(output_dir)
    plots = {name: to_png(figure) for name, figure in draw_figures(evaluation).items()}
    for name, content in plots.items():
        write_file(output_dir / PLOTS / f"{name}.png", content)
    main = element(
        "main",
        element("h1", title),
        element("p", _facts(evaluation), class_="facts"),
        element("p", headline(evaluation), class_="headline"),
        *ap_section(evaluation, plots),
        *class_section(evaluation),
        *error_section(evaluation),
        *confusion_section(evaluation),
        *quality_section(evaluation, plots),
        *sample_section(evaluation, image_root),
        *miss_section(evaluation, image_root),
        *gallery_section(evaluation, image_root),
        *provenance_section(evaluation),
        *seconds_section(evaluation.summary["seconds"]),
    )
    write_file(output_dir / REPORT, page(title, element("body", main)))
    return plots


def _facts(evaluation: Evaluation) -> str:
    return ", ".join(
        [
            counted(evaluation.summary["images"], "image", "images"),
            counted(
                instances_by_category(evaluation.ground_truth).total(), "instance", "instances"
            ),
            counted(len(evaluation.ground_truth.cats), "class", "classes"),
            counted(len(evaluation.detections), "detection", "detections"),
        ]
    )
