"""How many solutions have which aggregate, as bars in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_BINS = 20  # bars of about 14 px in the figure's 20 rem


def histogram(aggregates: Sequence[float], aggregation: str) -> str:
    """A figure of all aggregates from 0 to 1, or from the lowest to the highest for sum_log. "" if there are none."""
    if not aggregates:
        return ""
    low, high = _range(aggregates, aggregation)
    counts = [0] * _BINS
    for number in aggregates:
        counts[min(int((number - low) / (high - low) * _BINS), _BINS - 1)] += 1
    edges = [low + (high - low) * i / _BINS for i in range(_BINS + 1)]
    bars = "".join(
        f'<i style="--h:{count / max(counts):.3f}" title="{edges[i]:.3g} to {edges[i + 1]:.3g}: {count}"></i>'
        for i, count in enumerate(counts)
    )
    alternative = f"Histogram of {aggregation} over {len(aggregates)} solutions, from {low:.3g} to {high:.3g}"
    return (
        f'<figure class="histogram"><div role="img" aria-label="{escape(alternative)}">{bars}</div>'
        f"<figcaption><span>{low:.3g}</span><span>{escape(aggregation)} per solution</span><span>{high:.3g}</span>"
        "</figcaption></figure>"
    )


def _range(aggregates: Sequence[float], aggregation: str) -> tuple[float, float]:
    if aggregation == "sum_log":  # has no lower end
        return min(aggregates), max(*aggregates, min(aggregates) + 1e-9)  # some width, if all are equal
    return min(0.0, *aggregates), max(1.0, *aggregates)
