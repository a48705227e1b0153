"""The report of an evaluation: one page that needs no other file, and the plots beside it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..evaluation import METRICS, RANKINGS, Evaluation
from .gallery import MAX_PER_IMAGE, SIDE, RankedMask, draw_mask, most_moved, most_overrated
from .html import Content, Element, element, image, page, row, table
from .images import image_name
from .plots import COLORS, LABELS, SCORES, compared_scores, draw_figures, to_png

STYLE = Path(__file__).with_name("report.css")
JPEG_QUALITY = 85
MANY_CLASSES = 20  # more are folded away
NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
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
        *_gallery(evaluation, image_root),
        *_classes(evaluation),
        *_seconds(evaluation.summary["seconds"]),
    )
    content = page(title, STYLE.read_text(encoding="utf-8"), element("body", main))
    (output_dir / "report.html").write_bytes(content)
    return plots


def headline(evaluation: Evaluation) -> str:
    """What the evaluation says, in a sentence or two."""
    summary = evaluation.summary
    if summary["bbox"]["AP"] is None:
        return "The dataset has no instance to find: AP is not defined."
    if summary["segm_box_score"] is None:
        return f"Box AP is {_number(summary['bbox']['AP'])}. There are no masks to compare."
    before = summary["segm_box_score"]["AP"]
    perfect = summary["segm_oracle"]["AP"] - before
    gain, interval = summary["delta"]["AP"], summary["delta"]["ci95"]
    if gain is None:
        return (
            f"Mask AP is {_number(before)}. The model predicts no MaskIoU: its masks are ranked by "
            f"box score alone. A perfect score, the true MaskIoU, would gain "
            f"{_number(perfect)} points."
        )
    change = f"Ranking masks by mask score instead of box score changes mask AP by {_signed(gain)}"
    bounds = "" if interval is None else " to ".join(_signed(bound) for bound in interval)
    if interval is None:
        sentence = f"{change} points; how much of that is chance was not estimated."
    elif interval[0] <= 0 <= interval[1]:
        sentence = (
            f"{change} points (95% interval {bounds}): on this dataset not distinguishable from "
            "no gain."
        )
    else:
        verb = "gains" if gain > 0 else "loses"
        sentence = (
            f"Ranking masks by mask score {verb} {_number(abs(gain))} points of mask AP over "
            f"ranking by box score (95% interval {bounds})."
        )
    return f"{sentence} A perfect score, the true MaskIoU, would gain {_number(perfect)}."


def _facts(evaluation: Evaluation) -> str:
    ground_truth = evaluation.ground_truth
    counted = {
        "image": evaluation.summary["images"],
        "instance": sum(_instances(evaluation).values()),
        "class": len(ground_truth.cats),
        "detection": len(evaluation.detections),
    }
    plural = {"class": "classes"}
    return ", ".join(
        f"{number:,} {name if number == 1 else plural.get(name, name + 's')}"
        for name, number in counted.items()
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
        cells = []
        for metric in metrics:
            text = _number(summary[name][metric])
            values = [summary[r][metric] for r in real if summary[r][metric] is not None]
            # As printed, so that what looks equal is equally good.
            is_best = name in real and len(real) > 1 and values and text == _number(max(values))
            cells.append(element("strong", text) if is_best else text)
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
        note += " True MaskIoU is known from the ground truth alone: what a perfect score gives."
    return [
        element("h2", "Average precision"),
        table(["", *metrics], rows, "Average precision under each ranking"),
        element("p", note, class_="note"),
        _plots(plots, ["ap_over_iou", "gain_over_iou"]),
    ]


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
        *(_number(statistics[name], 3) for name in ("pearson", "spearman", "mae")),
        f"{statistics['n']:,}",
    ]


def _gallery(evaluation: Evaluation, image_root: Path | None) -> list[Content]:
    if evaluation.true_maskiou is None:
        return []
    if "segm_mask_score" in evaluation.scores:
        down, up = most_moved(evaluation)
        groups = {
            "Moved down most": (
                "High box score, and a mask predicted to be poor: rightly where the true MaskIoU "
                "is low.",
                down,
            ),
            "Moved up most": (
                "Lower box score, and a mask predicted to be good: rightly where the true MaskIoU "
                "is high.",
                up,
            ),
        }
        how = (
            "Compared are the ranks of the best detections by box score, as many as there are "
            "instances, under either score (rank by box score → by mask score)"
        )
    else:
        groups = {
            "High box score, poor mask": (
                "Detections on an instance whose box score is most above their true MaskIoU.",
                most_overrated(evaluation),
            )
        }
        how = (
            "Looked at are the best detections by box score, as many as there are instances; the "
            "model predicts no MaskIoU to rank them anew"
        )
    sections, missing = [], 0
    for heading, (note, masks) in groups.items():
        figures = []
        for mask in masks:
            picture, found = draw_mask(evaluation, mask.index, image_root)
            missing += not found
            figures.append(_picture(evaluation, mask, picture))
        sections += [
            element("h3", heading),
            element("p", note if figures else "None.", class_="note"),
            element("div", *figures, class_="gallery") if figures else None,
        ]
    explanation = (
        f"{how}; at most {MAX_PER_IMAGE} of one image are shown. Pink: the predicted mask. Yellow "
        "line: the ground truth. Images are shown with less colour than they have."
    )
    if missing:
        explanation += (
            f" {missing} of the pictures are on a plain ground: their images were not found, "
            "cannot be read or are of another size."
        )
    return [
        element("h2", "Masks to look at"),
        element("p", explanation, class_="note"),
        *sections,
    ]


def _picture(evaluation: Evaluation, mask: RankedMask, picture: Image.Image) -> Element:
    detections, true, index = evaluation.detections, evaluation.true_maskiou, mask.index
    ground_truth = evaluation.ground_truth
    class_name = str(ground_truth.cats[int(detections.category_id[index])]["name"])
    file_name = image_name(ground_truth.imgs[int(detections.image_id[index])])
    matched = true.instance[index] != 0
    rank = f"{mask.box_rank:,}"
    if mask.mask_rank is not None:
        rank += f" → {mask.mask_rank:,}"
    values = {
        "Rank": rank,
        "Box score": _number(detections.score[index]),
        "Predicted MaskIoU": _number_at(detections.maskiou, index),
        "Mask score": _number_at(detections.mask_score, index),
        "True MaskIoU": _number(true.matched[index] if matched else true.best[index]),
    }
    return element(
        "figure",
        image(
            _jpeg(picture),
            "image/jpeg",
            f"{class_name} in {file_name}: predicted mask and ground truth",
            SIDE,
            SIDE,
        ),
        element(
            "figcaption",
            element("strong", class_name),
            element("dl", *_terms(values)),
            None if matched else element("p", "The box is on no instance of the class."),
            element("p", file_name),
        ),
    )


def _number_at(column: np.ndarray | None, index: int) -> str | None:
    return None if column is None else _number(column[index])


def _terms(values: dict[str, str | None]) -> Iterator[Element]:
    """The content of a ``dl``; what is ``None`` is left out."""
    for name, value in values.items():
        if value is not None:
            yield element("div", element("dt", name), element("dd", value))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


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
            *(_number(value) for value in ap),
            *([_signed(gain)] if with_gain else []),
        )
        for name, count, ap, gain in lines
    ]
    folded = element(
        "details",
        element("summary", f"{len(rows):,} {'class' if len(rows) == 1 else 'classes'}"),
        table([*header, "gain"] if with_gain else header, rows, "Average precision of each class"),
    )
    if len(rows) <= MANY_CLASSES:
        folded.set("open", "")
    order = "gain of the mask score over the box score" if with_gain else "AP"
    note = f"Percent, in the order of {order}. With few instances, a class's AP is mostly chance."
    return [element("h2", "Classes"), element("p", note, class_="note"), folded]


def _seconds(seconds: dict[str, float]) -> list[Content]:
    rows = [
        (stage.replace("_", " ").replace("maskiou", "MaskIoU"), _number(time))
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


def _number(value: float | None, digits: int = 2) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.2f}".replace("-", MINUS)
