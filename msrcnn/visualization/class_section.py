"""The section of the HTML report with the AP of each class, in a table that can be sorted."""

from __future__ import annotations

from ..evaluation import Evaluation
from ..evaluation.ground_truth import instances_by_category
from ..evaluation.rankings import AP_LABELS, COMPARED
from .html import Content, element, row, table
from .text import counted, number, signed

MAX_EXPANDED_CLASSES = 20  # longer tables of classes are collapsed


def class_section(evaluation: Evaluation) -> list[Content]:
    """Builds the section with the table of classes.

    Args:
        evaluation: the evaluation.
    """
    rankings = ["bbox", *(name for name in COMPARED if name in evaluation.precision)]
    with_gain = set(COMPARED) <= set(rankings)
    instances = instances_by_category(evaluation.ground_truth)
    classes = []
    for index, category in enumerate(evaluation.precision["bbox"].categories):
        ap = [evaluation.precision[name].of_category(index)["AP"] for name in rankings]
        defined = with_gain and ap[0] is not None
        gain = [ap[-1] - ap[-2] if defined else None] if with_gain else []
        classes.append((str(category["name"]), instances[category["id"]], ap, gain))
    # By the last column in descending order, then by the first AP; classes without instances last.
    classes.sort(key=lambda c: tuple((v is None, -(v or 0)) for v in ([*c[2], *c[3]][-1], c[2][0])))
    rows = [
        row(name, f"{count:,}", *map(number, ap), *map(signed, gain))
        for name, count, ap, gain in classes
    ]
    header = ["class", "instances", *(AP_LABELS[name] for name in rankings)]
    header += ["gain"] if with_gain else []
    collapsible = element(
        "details",
        element("summary", counted(len(rows), "class", "classes")),
        table(header, rows, "Average precision of each class", sorted_by=len(header) - 1),
    )
    if len(rows) <= MAX_EXPANDED_CLASSES:
        collapsible.set("open", "")
    order = "the gain of the mask score over the box score" if with_gain else "AP"
    note = (
        f"In percent, first sorted by {order}; a heading sorts by its column. AP of classes with "
        "few instances is unreliable."
    )
    return [element("h2", "Classes"), element("p", note, class_="note"), collapsible]
