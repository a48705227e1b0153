"""The section of the HTML report on confusions of classes."""

from __future__ import annotations

from collections import Counter

from ..evaluation import Evaluation
from .html import Content, Element, element, row, table
from .text import number

MAX_CLASSES = 12  # of the matrix
MAX_PAIRS = 10
OTHERS = "others"  # stands for all classes that the matrix does not show
SHADES = 4  # of cells, in report.css

Key = int | str | None


def confusion_section(evaluation: Evaluation) -> list[Content]:
    """Builds the section with the confusion matrix and the most frequent confusions.

    Args:
        evaluation: the evaluation. Without instances or detections, the section is empty.
    """
    found = evaluation.summary["confusion"]
    if not found["cells"]:
        return []
    names = {key: str(c["name"]) for key, c in evaluation.ground_truth.cats.items()}
    cells = Counter({(cell["true"], cell["predicted"]): cell["n"] for cell in found["cells"]})
    shown = _most_confused(cells, sorted(names))
    left_out = len(names) - len(shown)
    what = "masks" if found["iou_type"] == "segm" else "boxes"
    note = (
        f"Instances by their class (rows) and by the class of their detection (columns), for "
        f"detections with a box score of at least {found['min_score']}. In decreasing order of "
        f"the score, each takes the instance of any class that it overlaps most, if their {what} "
        f"have an IoU of at least {found['iou_threshold']}. Last column: instances without a "
        "detection. Last row: detections without an instance."
    )
    if left_out:
        note += (
            f" The matrix shows the {len(shown)} most confused of {len(names)} classes, and all "
            "others together."
        )
    return [
        element("h2", "Confusions"),
        element("p", note, class_="note"),
        _matrix(cells, shown, names),
        *_pairs(cells, names),
    ]


def _between_classes(cells: Counter) -> list[tuple[Key, Key, int]]:
    """Confusions of two classes as (true, predicted, number), most frequent first."""
    pairs = [(*pair, n) for pair, n in cells.items() if None not in pair and pair[0] != pair[1]]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def _most_confused(cells: Counter, ids: list[int]) -> list[int]:
    """Returns the categories of the matrix, sorted by id."""
    confusions = Counter()
    for true, predicted, n in _between_classes(cells):
        confusions.update({true: n, predicted: n})
    instances = _instances(cells)
    order = sorted(ids, key=lambda i: (-confusions[i], -instances[i], i))
    return sorted(order[:MAX_CLASSES])


def _instances(cells: Counter) -> Counter:
    instances = Counter()
    for (true, _), n in cells.items():
        instances[true] += n
    return instances


def _matrix(cells: Counter, shown: list[int], names: dict[int, str]) -> Element:
    joined = Counter()
    for pair, n in cells.items():
        joined[tuple(key if key is None or key in shown else OTHERS for key in pair)] += n
    keys: list[Key] = [*shown, *([OTHERS] if len(shown) < len(names) else [])]
    of_row = {key: sum(joined[key, other] for other in [*keys, None]) for key in [*keys, None]}
    rows = [
        row(
            _name(key, names, "no instance"),
            *(_cell(joined[key, other], of_row[key], _kind(key, other)) for other in [*keys, None]),
        )
        for key in [*keys, None]
    ]
    header = [element("span", _name(key, names, "missed")) for key in [*keys, None]]
    return table(["", *header], rows, "Confusion matrix", class_="matrix")


def _name(key: Key, names: dict[int, str], nothing: str) -> str:
    return nothing if key is None else names.get(key, key)


def _kind(true: Key, predicted: Key) -> str:
    """Returns the class of a cell in report.css; among the other classes, some are confused."""
    if true != predicted:
        return "wrong"
    return "" if true == OTHERS else "right"


def _cell(n: int, of_row: int, kind: str) -> Element:
    """Returns a cell that is the darker the larger its share of the row is."""
    shade = -(-SHADES * n // of_row) if of_row and kind else 0
    attributes = {"class_": f"{kind} shade{shade}"} if shade else {}
    return element("td", f"{n:,}" if n else "", **attributes)


def _pairs(cells: Counter, names: dict[int, str]) -> list[Content]:
    pairs = _between_classes(cells)[:MAX_PAIRS]
    if not pairs:
        return []
    instances = _instances(cells)
    rows = [
        row(
            f"{names[true]} predicted as {names[predicted]}",
            f"{n:,}",
            number(100 * n / instances[true], 1),
        )
        for true, predicted, n in pairs
    ]
    header = ["confusion", "instances", "% of the class"]
    return [
        element("h3", "Most frequent confusions"),
        table(header, rows, "Most frequent confusions"),
    ]
