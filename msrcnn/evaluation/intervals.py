"""Confidence intervals over seeds."""

import statistics

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def student_interval(values: list[float]) -> list[float] | None:
    """Returns the 95% confidence interval of the mean of independent values, by Student's t.

    ``None`` for fewer than two values. The caller leaves out repeats of one run, which are not
    independent.
    """
    if len(values) < 2:
        return None
    interval = np.array(stats.t.interval(CONFIDENCE, len(values) - 1))
    return (statistics.fmean(values) + interval * stats.sem(values)).tolist()
