"""Calibration as a picture: of the steps that score so, how many are right? An SVG, drawn without a script.

One bar for each bin of scores, as high as its share of right steps. A step that scores 0.8 promises to be right in 80 %
of all cases: the dashed line. The distance of a bar's share to what the bin's mean score promises is the gap that the
expected calibration error averages. Below, how many steps there are in each bin, because a bar of three steps says
little.
"""

from __future__ import annotations

from collections.abc import Sequence

from vllm_prm.evaluate.stepmetrics import Bin, calibration_error

# The picture's own units, which are CSS pixels where the page is wide enough.
_WIDTH, _HEIGHT = 336, 272
_LEFT, _RIGHT = 44, 326  # score 0 and score 1
_TOP, _BOTTOM = 28, 188  # all steps right, and none
_COUNTS, _COUNTS_TOP = 228, 198  # foot of the bars that count steps, and the top of the highest one
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability_plot(bins: Sequence[Bin]) -> str:
    """A figure. "" if there are no bins: no step has both a label and a score, or scores are no probabilities."""
    error = calibration_error(bins)
    if error is None:
        return ""
    steps = sum(each.steps for each in bins)
    most = max(each.steps for each in bins)
    filled = "".join(_bin(each, most) for each in bins if each.steps)
    alternative = f"Share of right steps by step score, {steps} steps; expected calibration error {error:.1f} %"
    return f"""<figure class="reliability">
<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{alternative}">
{_axes()}
{filled}
<line class="promised" x1="{_LEFT}" y1="{_BOTTOM}" x2="{_RIGHT}" y2="{_TOP}"/>
</svg>
<figcaption><b>Expected calibration error {error:.1f} %</b> over {len(bins)} bins, {steps:,} labelled steps.
Bars: share of right steps; dashed: what the scores promise; <span class="gap-name">gap</span> between the two.
Below: how many steps score so.</figcaption>
</figure>"""


def _axes() -> str:
    rows = "".join(
        f'<line class="axis" x1="{_LEFT}" y1="{_y(tick):.1f}" x2="{_RIGHT}" y2="{_y(tick):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{_y(tick) + 4:.1f}" text-anchor="end">{100 * tick:.0f} %</text>'
        for tick in _TICKS
    )
    columns = "".join(
        f'<text x="{_x(tick):.1f}" y="{_COUNTS + 16}" text-anchor="middle">{tick:g}</text>' for tick in _TICKS
    )
    foot = f'<line class="axis" x1="{_LEFT}" y1="{_COUNTS}" x2="{_RIGHT}" y2="{_COUNTS}"/>'
    names = (
        f'<text x="{_LEFT}" y="12">right steps</text>'
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">score of a step</text>'
    )
    return f"{rows}{foot}{columns}{names}"


def _bin(each: Bin, most: int) -> str:
    """most: steps in the fullest bin."""
    mean_score, good = each.mean_score or 0.0, each.good or 0.0
    left, width = _x(each.low) + 1, _x(each.high) - _x(each.low) - 2
    count = max((_COUNTS - _COUNTS_TOP) * each.steps / most, 1.0)  # a pixel at least: there are steps
    named = (
        f"{each.low:g} to {each.high:g}: {each.steps:,} steps, mean score {mean_score:.3f}, {100 * good:.1f} % right"
    )
    return f"""<g><title>{named}</title>
<rect class="bar" x="{left:.1f}" y="{_y(good):.1f}" width="{width:.1f}" height="{_BOTTOM - _y(good):.1f}"/>
<line class="gap" x1="{_x(mean_score):.1f}" y1="{_y(mean_score):.1f}" x2="{_x(mean_score):.1f}" y2="{_y(good):.1f}"/>
<rect class="count" x="{left:.1f}" y="{_COUNTS - count:.1f}" width="{width:.1f}" height="{count:.1f}"/></g>"""


def _x(score: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * score


def _y(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * share
