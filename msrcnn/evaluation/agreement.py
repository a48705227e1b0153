"""How well scores agree with the true MaskIoU (section 4 of the paper)."""

import textwrap
import warnings
from typing import NamedTuple

import numpy as np
from scipy.stats import NearConstantInputWarning, pearsonr, rankdata
from tabulate import tabulate

from .mask_quality import TrueMaskIoU

CALIBRATION_BINS = 10
# COCO's area ranges, in pixels of the instance.
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
# Scores that are compared with the true MaskIoU, and their labels, by key in evaluation.json.
SCORES = {
    "maskiou": "predicted MaskIoU",
    "box_score": "box score",
    "mask_confidence": "mask confidence",
}
CORRELATIONS = ("pearson", "spearman")
AGREEMENT = (*CORRELATIONS, "mae", "n")


class Scope(NamedTuple):
    """A set of detections that scores are compared on.

    Attributes:
        suffix: suffix of the keys in evaluation.json.
        label: name of the set.
        meaning: what the agreement on these detections tells, in a sentence.
        false_positives: the value of ``MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES`` with which a
            MaskIoU head learns to predict this.
        training: what that means, in words.
    """

    suffix: str
    label: str
    meaning: str
    false_positives: str
    training: str

    def trained_for(self, summary: dict) -> str | None:
        """Returns a sentence if the model was trained to predict this, else ``None``.

        Args:
            summary: the summary of an evaluation, or the content of ``evaluation.json``.
        """
        found = (summary["maskiou"] or {}).get("false_positives")
        if found != self.false_positives:
            return None
        return (
            f"This is what the model's MaskIoU head was trained to predict: {self.training} "
            f'(FALSE_POSITIVES "{found}").'
        )


SCOPES = (
    Scope(
        "",
        "matched detections",
        "How well a score predicts the MaskIoU of a detection that matches an instance.",
        "ignore",
        "each of its samples had an instance",
    ),
    Scope(
        "_all",
        "all detections",
        "How well a score predicts the expected MaskIoU of any detection; the true MaskIoU of a "
        "detection that matches no instance counts as 0.",
        "zero",
        "samples without an instance had a target of 0",
    ),
)


def quality_statistics(predicted: np.ndarray, true: TrueMaskIoU) -> dict:
    """Measures how well a score agrees with the true MaskIoU.

    Args:
        predicted: array of shape (N,), a score in [0, 1].
        true: true MaskIoU of the same N detections.

    Returns:
        A dict with

        * ``pearson``, ``spearman``: correlation over detections with a matched instance, ``None``
          for fewer than two detections or if all values are equal;
        * ``mae``: their mean absolute error, ``None`` without a detection;
        * ``n``: their number;
        * ``calibration``: for each of ``CALIBRATION_BINS`` equal intervals of the score that
          contains a detection, the mean score (``predicted``), the mean true MaskIoU (``true``)
          and the number of detections (``n``);
        * ``by_size``: the first four for each of ``SIZES``, by area of the matched instance;
        * ``pearson_all``, ``spearman_all``, ``mae_all``, ``n_all``, ``calibration_all``: the same
          over all detections, with a true MaskIoU of 0 for those without a matched instance, except
          for those that may be objects although no annotation says so, which are left out, see
          :func:`~.mask_quality.on_incomplete`.
    """
    predicted = predicted.astype(float)
    within = {name: (true.area >= low) & (true.area < high) for name, (low, high) in SIZES.items()}
    return {
        **_agreement(predicted, true.matched),
        "calibration": _calibration(predicted, true.matched),
        "by_size": {
            name: _agreement(predicted[inside], true.matched[inside])
            for name, inside in within.items()
        },
        **{f"{key}_all": v for key, v in _agreement(predicted, true.matched_or_zero).items()},
        "calibration_all": _calibration(predicted, true.matched_or_zero),
    }


def _agreement(predicted: np.ndarray, true: np.ndarray) -> dict[str, float | int | None]:
    predicted, true = _defined(predicted, true)
    values = (
        _correlation(predicted, true),
        _correlation(rankdata(predicted), rankdata(true)),
        float(np.abs(predicted - true).mean()) if len(true) else None,
        len(true),
    )
    return dict(zip(AGREEMENT, values))


def _calibration(predicted: np.ndarray, true: np.ndarray) -> list[dict]:
    predicted, true = _defined(predicted, true)
    bins = np.minimum((predicted * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "predicted": float(predicted[bins == index].mean()),
            "true": float(true[bins == index].mean()),
            "n": int((bins == index).sum()),
        }
        for index in np.unique(bins)
    ]


def _defined(predicted: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leaves out detections whose true MaskIoU is NaN."""
    known = ~np.isnan(true)
    return predicted[known], true[known]


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson correlation, or ``None`` if it is not defined."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearConstantInputWarning)
        return float(pearsonr(a, b).statistic)


def compared_scores(summary: dict) -> list[str]:
    """Returns the keys of ``SCORES`` that were compared with the true MaskIoU of a detection.

    Args:
        summary: the summary of an evaluation, or the content of ``evaluation.json``.
    """
    return [key for key in SCORES if summary[key] is not None and summary[key]["n"]]


def compared_scopes(summary: dict) -> list[Scope]:
    """Returns the ``SCOPES`` that an evaluation has; older files only have the first.

    Args:
        summary: the summary of an evaluation, or the content of ``evaluation.json``.
    """
    keys = compared_scores(summary)
    return [scope for scope in SCOPES if keys and f"n{scope.suffix}" in summary[keys[0]]]


def agreement_table(summary: dict) -> str:
    """Formats the agreement of scores with the true MaskIoU as text, with what it means.

    Args:
        summary: the summary of an evaluation, or the content of ``evaluation.json``.

    Returns:
        A table with a row for each score and scope, and a note on each scope; an empty string if
        no score was compared.
    """
    scopes = compared_scopes(summary)
    if not scopes:
        return ""
    rows = []
    for key in compared_scores(summary):
        for scope in scopes:
            *values, n = (summary[key][f"{name}{scope.suffix}"] for name in AGREEMENT)
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            rows.append([SCORES[key] if scope is scopes[0] else "", scope.label, *cells, f"{n:,}"])
    table = tabulate(
        rows,
        headers=["agreement with true MaskIoU", "over", "Pearson", "Spearman", "MAE", "n"],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "left", *["right"] * len(AGREEMENT)),
    )
    notes = [
        " ".join(filter(None, [f"{s.label}:", s.meaning, s.trained_for(summary)])) for s in scopes
    ]
    wrapped = [textwrap.fill(note, 100, subsequent_indent="  ") for note in notes]
    return "\n".join([table, *wrapped])
