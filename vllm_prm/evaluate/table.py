"""What the results of all benchmarks share: text tables for a terminal, means and percentages."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str | float | int | None]]) -> str:
    """The first column to the left, all others to the right; floats with one decimal, None as a dash."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def percent(hits: Sequence[bool]) -> float:
    """How many of these are true, 0 to 100. There must be one or more."""
    return 100 * sum(hits) / len(hits)


def unscored_note(unscored: int, effect: str) -> str:
    return f"\n{unscored} solutions could not be scored and {effect}." if unscored else ""


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
