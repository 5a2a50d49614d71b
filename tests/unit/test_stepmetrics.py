"""Figures about steps against torchmetrics, which shares no code with them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_calibration_error,
    binary_f1_score,
)

from vllm_prm.evaluate.stepmetrics import BINS, accuracy, calibration_error, macro_f1, reliability, roc_auc

# Scores as models give them, with ties, at the bins' edges, and so high that they come close to 1. torchmetrics puts a
# score of exactly 1 into a bin of its own, so that one is tested by hand.
SCORES = st.one_of(
    st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 0.7, 0.9, 0.999]), st.floats(0, 1, exclude_max=True)
)
STEPS = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=60)


def tensors(scores, labels):
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(labels, dtype=torch.int64)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_calibration_error_is_torchmetrics(steps):
    scores, labels = map(list, zip(*steps, strict=True))
    # Its bins' edges are float32; a score between an edge and its float32 lies elsewhere there.
    scores = [0.05 if min(abs(score - i / BINS) for i in range(BINS)) < 1e-7 else score for score in scores]
    theirs = binary_calibration_error(*tensors(scores, labels), n_bins=BINS, norm="l1")
    bins = reliability(scores, labels)
    assert calibration_error(bins) == pytest.approx(100 * float(theirs), abs=1e-4)
    assert sum(each.steps for each in bins) == len(scores)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_roc_auc_is_torchmetrics_and_the_definition(steps):
    scores, labels = map(list, zip(*steps, strict=True))
    scores = [round(score, 6) for score in scores]  # it compares in float32 here and there: no two closer than that
    good = [score for score, is_good in zip(scores, labels, strict=True) if is_good]
    bad = [score for score, is_good in zip(scores, labels, strict=True) if not is_good]
    if not good or not bad:
        assert roc_auc(scores, labels) is None
        return
    wins = sum((g > b) + (g == b) / 2 for g in good for b in bad)
    assert roc_auc(scores, labels) == pytest.approx(100 * wins / (len(good) * len(bad)), rel=1e-12)
    assert roc_auc(scores, labels) == pytest.approx(100 * float(binary_auroc(*tensors(scores, labels))), abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(STEPS, st.sampled_from([0.05, 0.5, 0.777]))
def test_macro_f1_is_torchmetrics(steps, threshold):
    scores, labels = map(list, zip(*steps, strict=True))
    judged, is_good = torch.tensor([score >= threshold for score in scores]), torch.tensor(labels)
    good = binary_f1_score(judged.long(), is_good.long())
    bad = binary_f1_score((~judged).long(), (~is_good).long())
    both = 50 * float(good + bad) if 0 < sum(labels) < len(labels) else None
    assert macro_f1(scores, labels, threshold) == (both if both is None else pytest.approx(both, abs=1e-4))


@settings(max_examples=100, deadline=None)
@given(STEPS, st.sampled_from([0.25, 0.3, 0.5, 0.7]))
def test_accuracy_is_torchmetrics(steps, threshold):
    scores, labels = map(list, zip(*steps, strict=True))
    scores = [0.01 if score == threshold else score for score in scores]  # there it is wrong, in ProcessBench right
    theirs = binary_accuracy(*tensors(scores, labels), threshold=threshold)
    assert accuracy(scores, labels, threshold) == pytest.approx(100 * float(theirs), abs=1e-4)


def test_a_score_at_the_threshold_is_right_and_one_at_an_edge_is_in_the_upper_bin():
    assert accuracy([0.5], [True], 0.5) == 100.0
    bins = reliability([0.1, 1.0, 0.0], [True, True, False])
    assert [each.steps for each in bins] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (bins[1].low, bins[1].high, bins[1].mean_score, bins[1].good) == (0.1, 0.2, 0.1, 1.0)
    assert (bins[2].mean_score, bins[2].good) == (None, None)
    assert calibration_error(bins) == pytest.approx(100 * 0.9 / 3)


@pytest.mark.parametrize("scores", [[], [0.5, 1.2], [-0.1, 0.4], [math.nan]])
def test_what_has_no_calibration(scores):
    bins = reliability(scores, [True] * len(scores))
    assert bins == ()
    assert calibration_error(bins) is None


def test_no_steps_have_no_figures():
    assert accuracy([], [], 0.5) is None
    assert macro_f1([], [], 0.5) is None
    assert roc_auc([], []) is None
