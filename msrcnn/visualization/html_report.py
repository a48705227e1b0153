"""Writes the HTML report of an evaluation, and its plots as PNG files."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

from PIL import Image

from ..atomic_file import write_file
from ..evaluation import METRICS, ORACLES, Evaluation
from ..evaluation.agreement import AGREEMENT, SCORES, Scope, compared_scopes, compared_scores
from ..evaluation.rankings import AP_LABELS, RANKINGS
from .gallery_section import gallery_section
from .headline import headline
from .html import Content, Element, element, image, page, row, table
from .plots import COLORS, LABELS, RANKING_OF_SCORE, draw_figures, to_png
from .text import counted, number, signed

STYLE = Path(__file__).with_name("report.css")
MAX_EXPANDED_CLASSES = 20  # longer tables of classes are collapsed
PLOT_CAPTIONS = {
    "ap_over_iou": "AP at each IoU threshold, from 0.50 to 0.95.",
    "gain_over_iou": (
        "AP of each ranking of masks minus AP of the ranking by box score, at each IoU threshold."
    ),
    "true_maskiou": (
        "True MaskIoU against each score, for detections that match an instance. The closer to "
        "the diagonal, the better the score predicts the quality of the mask."
    ),
    "true_maskiou_by_size": "True MaskIoU against each score, by size of the instance.",
    "calibration": (
        "Top: mean true MaskIoU of detections with a similar score; on the diagonal, the score is "
        "calibrated. Bottom: number of detections. Left: detections that match an instance. Right: "
        "all detections, where the true MaskIoU of one that matches no instance counts as 0."
    ),
}


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
        write_file(output_dir / "plots" / f"{name}.png", content)
    main = element(
        "main",
        element("h1", title),
        element("p", _facts(evaluation), class_="facts"),
        element("p", headline(evaluation), class_="headline"),
        *_rankings(evaluation, plots),
        *_quality(evaluation, plots),
        *gallery_section(evaluation, image_root),
        *_classes(evaluation),
        *_seconds(evaluation.summary["seconds"]),
    )
    content = page(title, STYLE.read_text(encoding="utf-8"), element("body", main))
    write_file(output_dir / "report.html", content)
    return plots


def _facts(evaluation: Evaluation) -> str:
    return ", ".join(
        [
            counted(evaluation.summary["images"], "image", "images"),
            counted(sum(_instances(evaluation).values()), "instance", "instances"),
            counted(len(evaluation.ground_truth.cats), "class", "classes"),
            counted(len(evaluation.detections), "detection", "detections"),
        ]
    )


def _instances(evaluation: Evaluation) -> Counter:
    """Number of instances of each category, without crowds."""
    annotations = evaluation.ground_truth.dataset["annotations"]
    return Counter(a["category_id"] for a in annotations if not a["iscrowd"])


def _rankings(evaluation: Evaluation, plots: dict[str, bytes]) -> list[Content]:
    summary = evaluation.summary
    shown = [name for name in AP_LABELS if summary[name] is not None]
    metrics = list(summary["bbox"])
    mask_rankings = [name for name in RANKINGS if name in shown and name not in ORACLES]
    rows = []
    for name in shown:
        cells = [number(summary[name][metric]) for metric in metrics]
        if name in mask_rankings:
            best = (_best([summary[r][metric] for r in mask_rankings]) for metric in metrics)
            cells = [element("strong", c) if c == b else c for c, b in zip(cells, best)]
        header = element("span", _color_key(name), LABELS[name])
        attributes = {"class_": "bound"} if name in ORACLES else {}
        rows.append(row(header, *cells, **attributes))
    note = (
        "In percent. AP is the mean over IoU thresholds 0.50 to 0.95; AP50 and AP75 are AP at IoU "
        "0.50 and 0.75; APs, APm and APl are AP of small (area < 32² pixels), medium (< 96²) and "
        "large instances."
    )
    if set(metrics) - set(METRICS):
        note += " APr, APc and APf are AP of rare, common and frequent classes."
    if len(mask_rankings) > 1:
        note += " Bold: the best ranking of masks."
    if "segm_oracle" in shown:
        note += (
            " Ranking by true MaskIoU uses the ground truth. With the true MaskIoU of matched "
            "detections and their mean for all others, it shows what a perfect prediction of "
            "MaskIoU would reach; the last row also puts every false positive last."
        )
    return [
        element("h2", "Average precision"),
        table(["", *metrics], rows, "Average precision under each ranking"),
        element("p", note, class_="note"),
        _plots(plots, ["ap_over_iou", "gain_over_iou"]),
    ]


def _best(values: list[float | None]) -> str | None:
    """Formats the largest of several values; ``None`` if all of them look the same."""
    values = [value for value in values if value is not None]
    differ = len({number(value) for value in values}) > 1
    return number(max(values)) if differ else None


def _quality(evaluation: Evaluation, plots: dict[str, bytes]) -> list[Content]:
    summary = evaluation.summary
    keys = compared_scores(summary)
    if evaluation.true_maskiou is None:
        return []
    heading = element("h2", "Mask quality")
    if not keys:
        return [heading, element("p", "No detection matches an instance of its class.")]
    note = (
        "Agreement of each score with the true MaskIoU. A detection matches an instance of its "
        "class if their boxes have an IoU of 0.5 or more. Pearson and Spearman are correlation "
        "coefficients (1 is perfect correlation, 0 is none), MAE is the mean absolute error. "
        "Of the detections that match no instance, those on a crowd of their class are left out, "
        "and those of a class whose instances may not all be annotated."
    )
    return [
        heading,
        element("p", note, class_="note"),
        *(part for scope in compared_scopes(summary) for part in _scope(summary, keys, scope)),
        _plots(plots, ["true_maskiou", "calibration", "true_maskiou_by_size"]),
    ]


def _scope(summary: dict, keys: list[str], scope: Scope) -> list[Content]:
    """Creates the table of agreement for one scope, with its meaning."""
    rows = []
    for key in keys:
        header = element("span", _color_key(RANKING_OF_SCORE[key]), SCORES[key])
        rows.append(row(header, *_agreement(summary[key], scope.suffix)))
        if not scope.suffix:  # a detection that matches no instance has no size of an instance
            for size, statistics in summary[key]["by_size"].items():
                rows.append(row(size, *_agreement(statistics), class_="part"))
    trained_for = scope.trained_for(summary)
    return [
        element("h3", scope.label.capitalize()),
        element("p", scope.meaning, class_="note"),
        element("p", trained_for, class_="note") if trained_for else None,
        table(
            ["", "Pearson", "Spearman", "MAE", "detections"],
            rows,
            f"Agreement with MaskIoU, {scope.label}",
        ),
    ]


def _agreement(statistics: dict, suffix: str = "") -> list[str]:
    *values, n = (statistics[f"{name}{suffix}"] for name in AGREEMENT)
    return [*(number(value, 3) for value in values), f"{n:,}"]


def _classes(evaluation: Evaluation) -> list[Content]:
    rankings = [n for n in ("segm_box_score", "segm_mask_score") if n in evaluation.precision]
    rankings = rankings or ["bbox"]
    instances = _instances(evaluation)
    classes = []
    for index, category in enumerate(evaluation.precision["bbox"].categories):
        ap = [evaluation.precision[name].of_category(index)["AP"] for name in rankings]
        gain = ap[-1] - ap[0] if ap[0] is not None else None
        classes.append((str(category["name"]), instances[category["id"]], ap, gain))
    # By gain, then by AP, in descending order; classes without instances last.
    classes.sort(key=lambda each: (each[3] is None, -(each[3] or 0), -(each[2][0] or 0)))
    header = ["class", "instances", *(AP_LABELS[name] for name in rankings)]
    with_gain = len(rankings) > 1
    rows = [
        row(
            name,
            f"{count:,}",
            *(number(value) for value in ap),
            *([signed(gain)] if with_gain else []),
        )
        for name, count, ap, gain in classes
    ]
    collapsible = element(
        "details",
        element("summary", counted(len(rows), "class", "classes")),
        table([*header, "gain"] if with_gain else header, rows, "Average precision of each class"),
    )
    if len(rows) <= MAX_EXPANDED_CLASSES:
        collapsible.set("open", "")
    order = "the gain of the mask score over the box score" if with_gain else "AP"
    note = f"In percent, sorted by {order}. AP of classes with few instances is unreliable."
    return [element("h2", "Classes"), element("p", note, class_="note"), collapsible]


def _seconds(seconds: dict[str, float]) -> list[Content]:
    rows = [
        (stage.replace("_", " ").replace("maskiou", "MaskIoU"), number(time))
        for stage, time in seconds.items()
    ]
    return [
        element("h2", "Time"),
        table(["stage", "seconds"], rows, "Seconds by stage"),
    ]


def _plots(plots: dict[str, bytes], names: list[str]) -> Element | None:
    figures = []
    for name in names:
        if name in plots:
            width, height = Image.open(io.BytesIO(plots[name])).size
            picture = image(plots[name], "image/png", PLOT_CAPTIONS[name], width, height)
            caption = element("figcaption", PLOT_CAPTIONS[name])
            figures.append(element("figure", element("div", picture, class_="plot"), caption))
    return element("div", *figures, class_="plots") if figures else None


def _color_key(ranking: str) -> Element:
    return element("span", class_="key", style=f"background: {COLORS[ranking]}")
