"""Confidence intervals over seeds."""

import statistics

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def student_interval(values: list[float]) -> list[float]:
    """Returns the 95% confidence interval of the mean of two or more values, by Student's t."""
    interval = np.array(stats.t.interval(CONFIDENCE, len(values) - 1))
    return (statistics.fmean(values) + interval * stats.sem(values)).tolist()
