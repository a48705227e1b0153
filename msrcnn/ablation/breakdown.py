"""Where a variant gains: AP under each ranking by size, IoU threshold and class, over seeds."""

import csv
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..evaluation import IOU_THRESHOLDS, RANKINGS, student_interval
from ..evaluation.agreement import SCOPES, SCORES
from .plan import RESULT

SIZES = {"small": "APs", "medium": "APm", "large": "APl"}
BEFORE, AFTER, FREE = "segm_box_score", "segm_mask_score", "segm_mask_confidence"


def breakdown(evaluations: list[dict], per_class: list[Path]) -> dict | None:
    """Breaks down the results of a variant.

    Args:
        evaluations: the content of ``evaluation.json`` for each seed.
        per_class: the ``per_class.csv`` of each.

    Returns:
        A dict with ``all``, ``size``, ``iou`` and ``class``, each a dict of groups, and
        ``agreement``. A group has the mean ``AP`` under each ranking that applies, ``gain`` of the
        mask score and ``free_gain`` of mask confidence, both over the box score, each with its
        ``mean`` and, for more than one seed, the ``std`` and ``ci95`` over seeds. Groups without
        an instance are left out. ``agreement`` has the mean ``pearson``, ``spearman``, ``mae`` and
        ``calibration_error`` by score, with the suffixes of the scopes. The calibration error is
        the mean absolute difference of predicted and true MaskIoU over the intervals of
        ``calibration``, weighted by their number of detections. ``None`` if masks have no mask
        score.
    """
    if not evaluations or any(each.get(AFTER) is None for each in evaluations):
        return None
    tables = [_read_per_class(path) for path in per_class]
    classes = list(dict.fromkeys(name for _, name in tables[0]))
    # Each member of a group reads its AP of a run under a ranking.
    groups = {
        "all": {"all": partial(_metric, evaluations, "AP")},
        "size": {name: partial(_metric, evaluations, column) for name, column in SIZES.items()},
        "iou": {
            f"{threshold:.2f}": partial(_at_threshold, evaluations, index)
            for index, threshold in enumerate(IOU_THRESHOLDS)
        },
        "class": {name: partial(_of_class, tables, name) for name in classes},
    }
    seeds = range(len(evaluations))
    found = {
        kind: {name: _group(read, seeds) for name, read in members.items()}
        for kind, members in groups.items()
    }
    return {
        **{
            kind: {name: group for name, group in members.items() if group is not None}
            for kind, members in found.items()
        },
        "agreement": {score: _agreement(evaluations, score) for score in SCORES},
    }


def _metric(evaluations: list[dict], column: str, run: int, ranking: str) -> float | None:
    return (evaluations[run].get(ranking) or {}).get(column)  # old runs have fewer rankings


def _at_threshold(evaluations: list[dict], index: int, run: int, ranking: str) -> float | None:
    values = evaluations[run].get("by_iou", {}).get(ranking)
    return values and values[index]


def _of_class(tables: list[dict], name: str, run: int, ranking: str) -> float | None:
    return tables[run].get((ranking, name))


def _group(read: Callable[[int, str], float | None], seeds: range) -> dict | None:
    values = {ranking: [read(run, ranking) for run in seeds] for ranking in RANKINGS}
    values = {ranking: each for ranking, each in values.items() if None not in each}
    if not {BEFORE, AFTER} <= values.keys():
        return None
    group = {"AP": {ranking: statistics.fmean(each) for ranking, each in values.items()}}
    for name, ranking in (("gain", AFTER), ("free_gain", FREE)):
        if ranking in values:
            group[name] = _gain(np.subtract(values[ranking], values[BEFORE]).tolist())
    return group


def _gain(gains: list[float]) -> dict:
    several = len(gains) > 1
    return {
        "mean": statistics.fmean(gains),
        "std": statistics.stdev(gains) if several else None,
        "ci95": student_interval(gains),
    }


def _agreement(evaluations: list[dict], score: str) -> dict[str, float | None]:
    found = [each[score] for each in evaluations if each.get(score) is not None]
    means = {}
    for suffix in (scope.suffix for scope in SCOPES):
        for name in ("pearson", "spearman", "mae"):
            means[f"{name}{suffix}"] = _mean([each.get(f"{name}{suffix}") for each in found])
        errors = [_calibration_error(each.get(f"calibration{suffix}", [])) for each in found]
        means[f"calibration_error{suffix}"] = _mean(errors)
    return means


def _calibration_error(calibration: list[dict]) -> float | None:
    number = sum(interval["n"] for interval in calibration)
    if not number:
        return None
    return sum(abs(i["predicted"] - i["true"]) * i["n"] for i in calibration) / number


def _mean(values: list[float | None]) -> float | None:
    return statistics.fmean(values) if values and None not in values else None


def _read_per_class(path: Path) -> dict[tuple[str, str], float]:
    """Returns AP by ranking and class; classes without an instance are left out.

    Raises:
        UserError: if the file cannot be read or is damaged.
    """
    mend = f"delete '{RESULT}' beside it to repeat the run"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                (row["ranking"], row["category"]): float(row["AP"])
                for row in csv.DictReader(file)
                if row["AP"]
            }
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror or error}: {mend}") from error
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"'{path}' is damaged ({error!r}): {mend}") from error
