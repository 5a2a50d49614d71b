"""The colour of a score: its CSS class and how strong it is. report.css says which colours these are."""

from __future__ import annotations

import math
from collections.abc import Iterable


def cells(scores: Iterable[float], threshold: float) -> str:
    """A row of small coloured boxes, one for each score."""
    return "".join(f'<i class="cell {side(s, threshold)}" style="{depth(s, threshold)}"></i>' for s in scores)


def side(score: float, threshold: float) -> str:
    """The CSS class of a score below the threshold, or at or above it."""
    return "low" if score < threshold else "high"


def depth(score: float, threshold: float) -> str:
    """The CSS variable for how strong the colour is: 0 at the threshold, 1 at a score of 0 or 1."""
    reach = threshold if score < threshold else 1 - threshold
    strength = min(1.0, abs(score - threshold) / reach) if reach > 0 and math.isfinite(score) else 1.0
    return f"--t:{strength:.2f}"
