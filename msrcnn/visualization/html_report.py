"""The report of an evaluation: one page that needs no other file, and the plots beside it."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

from PIL import Image

from ..evaluation import METRICS, RANKINGS, Evaluation
from .gallery_section import gallery_section
from .headline import headline
from .html import Content, Element, element, image, page, row, table
from .plots import COLORS, LABELS, SCORES, compared_scores, draw_figures, to_png
from .text import counted, number, signed

STYLE = Path(__file__).with_name("report.css")
MANY_CLASSES = 20  # more are folded away
PLOT_CAPTIONS = {
    "ap_over_iou": "AP at each IoU threshold, from a rough fit (0.5) to a tight one (0.95).",
    "gain_over_iou": "What each ranking of masks gains over ranking by box score there.",
    "true_maskiou": (
        "True MaskIoU over each score, of detections whose box is on an instance. The closer to "
        "the diagonal, the better the score says how good the mask is."
    ),
    "true_maskiou_by_size": "The same by the size of the instance.",
    "calibration": (
        "Above: what masks of a score are worth on average; on the diagonal the score can be "
        "taken at its word. Below: how many detections have such a score."
    ),
}


def write_report(
    evaluation: Evaluation,
    output_dir: Path,
    image_root: Path | None = None,
    title: str = "Evaluation",
) -> dict[str, bytes]:
    """Write ``report.html``, and its plots as ``plots/*.png``.

    Args:
        evaluation: of any model; the report leaves out what does not apply.
        output_dir: made if missing.
        image_root: the folder of the dataset's images; without it, or where images are missing,
            masks are shown on a plain ground.
        title: what was evaluated on what, for a person.

    Returns:
        The plots by name, as PNG files.
    """
    output_dir = Path(output_dir)
    plots = {name: to_png(figure) for name, figure in draw_figures(evaluation).items()}
    (output_dir / "plots").mkdir(parents=True, exist_ok=True)
    for name, content in plots.items():
        (output_dir / "plots" / f"{name}.png").write_bytes(content)
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
    (output_dir / "report.html").write_bytes(content)
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
    """How many there are of each category, crowds not counted."""
    annotations = evaluation.ground_truth.dataset["annotations"]
    return Counter(a["category_id"] for a in annotations if not a["iscrowd"])


def _rankings(evaluation: Evaluation, plots: dict[str, bytes]) -> list[Content]:
    summary = evaluation.summary
    shown = [name for name in ("bbox", *RANKINGS) if summary[name] is not None]
    metrics = list(summary["bbox"])
    real = [name for name in shown if name not in ("bbox", "segm_oracle")]
    rows = []
    for name in shown:
        cells = [number(summary[name][metric]) for metric in metrics]
        if name in real:
            best = (_best([summary[r][metric] for r in real]) for metric in metrics)
            cells = [element("strong", c) if c == b else c for c, b in zip(cells, best)]
        header = element("span", _key(name), LABELS[name])
        attributes = {"class_": "bound"} if name == "segm_oracle" else {}
        rows.append(row(header, *cells, **attributes))
    note = (
        "Percent. AP is the mean over IoU thresholds 0.50 to 0.95, AP50 and AP75 are at one; APs, "
        "APm and APl are of small, medium and large instances (up to 32², to 96² pixels, and over)."
    )
    if set(metrics) - set(METRICS):
        note += " APr, APc and APf are of rare, common and frequent classes."
    if len(real) > 1:
        note += " Bold: the best ranking of masks."
    if "segm_oracle" in shown:
        note += (
            " The true MaskIoU is known from the ground truth alone; ranking by it is what a "
            "perfect score would give."
        )
    return [
        element("h2", "Average precision"),
        table(["", *metrics], rows, "Average precision under each ranking"),
        element("p", note, class_="note"),
        _plots(plots, ["ap_over_iou", "gain_over_iou"]),
    ]


def _best(values: list[float | None]) -> str | None:
    """The largest of several values as it is printed; ``None`` if they all look the same."""
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
        return [heading, element("p", "No detection's box is on an instance of its class.")]
    rows = []
    for key in keys:
        label, ranking = SCORES[key]
        header = element("span", _key(ranking), label)
        rows.append(row(header, *_agreement(summary[key])))
        for size, statistics in summary[key]["by_size"].items():
            rows.append(row(size, *_agreement(statistics), class_="part"))
    return [
        heading,
        element(
            "p",
            "How well each score says how good a mask really is: its agreement with the true "
            "MaskIoU, over the detections whose box has an IoU of 0.5 or more with an instance of "
            "the class. 1 is perfect correlation, 0 none; MAE is the mean absolute error.",
            class_="note",
        ),
        table(["", "Pearson", "Spearman", "MAE", "detections"], rows, "Agreement with MaskIoU"),
        _plots(plots, ["true_maskiou", "calibration", "true_maskiou_by_size"]),
    ]


def _agreement(statistics: dict) -> list[str]:
    return [
        *(number(statistics[name], 3) for name in ("pearson", "spearman", "mae")),
        f"{statistics['n']:,}",
    ]


def _classes(evaluation: Evaluation) -> list[Content]:
    rankings = [n for n in ("segm_box_score", "segm_mask_score") if n in evaluation.precision]
    rankings = rankings or ["bbox"]
    instances = _instances(evaluation)
    lines = []
    for index, category in enumerate(evaluation.precision["bbox"].categories):
        ap = [evaluation.precision[name].of_category(index)["AP"] for name in rankings]
        gain = ap[-1] - ap[0] if ap[0] is not None else None
        lines.append((str(category["name"]), instances[category["id"]], ap, gain))
    # The largest gain first, or the best; classes without an instance last.
    lines.sort(key=lambda line: (line[3] is None, -(line[3] or 0), -(line[2][0] or 0)))
    names = {
        "bbox": "box AP",
        "segm_box_score": "mask AP by box score",
        "segm_mask_score": "mask AP by mask score",
    }
    header = ["class", "instances", *(names[name] for name in rankings)]
    with_gain = len(rankings) > 1
    rows = [
        row(
            name,
            f"{count:,}",
            *(number(value) for value in ap),
            *([signed(gain)] if with_gain else []),
        )
        for name, count, ap, gain in lines
    ]
    folded = element(
        "details",
        element("summary", counted(len(rows), "class", "classes")),
        table([*header, "gain"] if with_gain else header, rows, "Average precision of each class"),
    )
    if len(rows) <= MANY_CLASSES:
        folded.set("open", "")
    order = "gain of the mask score over the box score" if with_gain else "AP"
    note = f"Percent, in the order of {order}. With few instances, a class's AP is mostly chance."
    return [element("h2", "Classes"), element("p", note, class_="note"), folded]


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


def _key(ranking: str) -> Element:
    return element("span", class_="key", style=f"background: {COLORS[ranking]}")
