"""How well scores tell right steps from wrong ones, over any number of steps. Knows no benchmark.

    accuracy           steps on the side of the threshold that their label says
    macro_f1           the mean of the F1 of finding right steps and of finding wrong ones
    roc_auc            how often a right step scores above a wrong one, ties counting half: no threshold is needed
    reliability        do half of the steps that score 0.5 hold? One bin for each tenth of the scores
    calibration_error  one number of it: the expected calibration error

All in percent and in O(steps log steps).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10  # of equal width, as in the reliability diagrams of https://arxiv.org/abs/1706.04599, figure 4


@dataclass(frozen=True)
class Bin:
    """The steps that score in [low, high), or up to 1 in the last bin.

    mean_score: in [0, 1]; what share of them the scores promise to be right. good: the share that is. Both are None
    without steps.
    """

    low: float
    high: float
    steps: int
    mean_score: float | None
    good: float | None


def accuracy(scores: Sequence[float], labels: Sequence[bool], threshold: float) -> float | None:
    """labels: whether each step is right. A step is judged wrong below the threshold. In percent; None for no steps."""
    if not scores:
        return None
    return 100 * float(np.mean((np.asarray(scores, np.float64) >= threshold) == np.asarray(labels, bool)))


def macro_f1(scores: Sequence[float], labels: Sequence[bool], threshold: float) -> float | None:
    """The mean of the F1 with right steps as the positive class and of the F1 with wrong ones, in percent.

    2 TP / (2 TP + FP + FN) of each, which is 0 where none is found. None unless there are right steps and wrong ones.
    """
    judged, is_good = np.asarray(scores, np.float64) >= threshold, np.asarray(labels, bool)
    if is_good.all() or not is_good.any():
        return None
    mistakes = int((judged != is_good).sum())
    hits = (int((judged & is_good).sum()), int((~judged & ~is_good).sum()))
    return 50 * sum(2 * hit / (2 * hit + mistakes) if hit else 0.0 for hit in hits)


def roc_auc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """The area under the ROC curve, in percent; 50 is chance. None unless there are right steps and wrong ones.

    By ranks (Mann and Whitney): U = (sum of the right steps' ranks) - g (g + 1) / 2, divided by the number of pairs.
    Equal scores share the mean of their ranks.
    """
    is_good = np.asarray(labels, bool)
    good, bad = int(is_good.sum()), int((~is_good).sum())
    if not good or not bad:
        return None
    _, place, counts = np.unique(np.asarray(scores, np.float64), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # from 1; the mean rank of each group of equal scores
    return 100 * float(ranks[is_good].sum() - good * (good + 1) / 2) / (good * bad)


def reliability(scores: Sequence[float], labels: Sequence[bool]) -> tuple[Bin, ...]:
    """Bins of equal width over [0, 1]. None at all for no steps, and for scores outside [0, 1]: no probabilities."""
    values, is_good = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if not values.size or not (values.min() >= 0 and values.max() <= 1):  # so that NaN is outside too
        return ()
    edges = np.arange(BINS + 1) / BINS  # not linspace, whose 0.3 is a little more than a score of 0.3
    place = np.searchsorted(edges[1:-1], values, side="right")
    counts = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, values, minlength=BINS)
    good = np.bincount(place, is_good, minlength=BINS)
    return tuple(
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(n),
            float(sums[i] / n) if n else None,
            float(good[i] / n) if n else None,
        )
        for i, n in enumerate(counts)
    )


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """The expected calibration error, in percent: |mean score - share of right steps| of a bin, weighted by its steps.

    https://arxiv.org/abs/1706.04599, equation 3. None for no bins.
    """
    total = sum(each.steps for each in bins)
    gaps = (each.steps * abs((each.mean_score or 0.0) - (each.good or 0.0)) for each in bins)
    return 100 * sum(gaps) / total if total else None
