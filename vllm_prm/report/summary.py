"""The top of a report: figures about all solutions, their histogram, and what the colours mean."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from vllm_prm.evaluate.stepmetrics import accuracy, reliability, roc_auc
from vllm_prm.report.cells import cells
from vllm_prm.report.histogram import histogram
from vllm_prm.report.judged import JudgedRow
from vllm_prm.report.reliability import reliability_plot


def summary(judged: Sequence[JudgedRow], aggregation: str, threshold: float) -> str:
    figures = _facts(judged, aggregation, threshold)
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    return f"""<dl class="facts">{items}</dl>
<div class="figures">
{histogram(_aggregates(judged), aggregation)}
{reliability_plot(reliability(*_labelled_steps(judged)))}
{_legend(threshold)}
</div>"""


def _facts(judged: Sequence[JudgedRow], aggregation: str, threshold: float) -> list[tuple[str, str]]:
    """Name and value of each figure."""
    aggregates = _aggregates(judged)
    with_error = sum(solution.first_error is not None for solution in judged)
    comparable = [solution for solution in judged if solution.is_comparable]
    facts = [
        ("solutions", f"{len(judged):,}"),
        ("steps", f"{sum(len(solution.row.steps) for solution in judged):,}"),
        (f"mean {aggregation}", f"{sum(aggregates) / len(aggregates):.3f}" if aggregates else "none"),
        (f"with a step below {threshold:g}", _share(with_error, len(aggregates))),
    ]
    if comparable:
        as_labelled = sum(not solution.is_missed for solution in comparable)
        facts.append(("first error as labelled", _share(as_labelled, len(comparable))))
    facts += _step_facts(*_labelled_steps(judged), threshold)
    if len(aggregates) < len(judged):
        facts.append(("not scored", str(len(judged) - len(aggregates))))
    return facts


def _step_facts(scores: Sequence[float], labels: Sequence[bool], threshold: float) -> list[tuple[str, str]]:
    """How the scores of steps agree with their labels, as far as there are any."""
    figures = [
        ("steps as labelled", accuracy(scores, labels, threshold)),
        ("ROC AUC of steps", roc_auc(scores, labels)),
    ]
    return [(name, f"{value:.1f} %") for name, value in figures if value is not None]


def _labelled_steps(judged: Sequence[JudgedRow]) -> tuple[list[float], list[bool]]:
    pairs = [pair for solution in judged for pair in solution.labelled_steps]
    return [score for score, _ in pairs], [label for _, label in pairs]


def _legend(threshold: float) -> str:
    scale = cells((i / 10 for i in range(11)), threshold)
    return f"""<p class="legend"><span>step score 0</span>\
<span class="scale" aria-hidden="true">{scale}</span><span>1</span>
<span class="note">orange: below {threshold:g}; blue: at or above it. <b class="badge first">first error</b>
marks the first orange step.</span></p>"""


def _aggregates(judged: Sequence[JudgedRow]) -> list[float]:
    """Of the solutions that have scores."""
    return [solution.aggregate for solution in judged if solution.aggregate is not None]


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.1f} %)" if whole else "none"
