"""A report's page: what stands in it, and its controls.

Everything is written into the page as escaped HTML, with no data for scripts to build it from: it can be read, searched
and printed without them, and a text can be nothing but text. The script only sorts and filters what is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from vllm_prm.aggregate import check_aggregation
from vllm_prm.look import document
from vllm_prm.report.judged import JudgedRow
from vllm_prm.report.pictures import shows_images
from vllm_prm.report.rows import ReportRow
from vllm_prm.report.solution import solution
from vllm_prm.report.summary import summary
from vllm_prm.scores import FIRST_ERROR_THRESHOLD, StepScores

_ALL_OPEN = 20  # solutions: with more of them the page starts as a list of one-line summaries


def write_report(
    path: str | os.PathLike[str],
    rows: Iterable[ReportRow],
    *,
    title: str = "Step scores",
    subtitle: str = "",
    aggregation: str | None = None,
    threshold: float = FIRST_ERROR_THRESHOLD,
) -> Path:
    """Write one self-contained page about these solutions, and return its path.

    subtitle: a line under the title, for example the model's name. aggregation: how a solution's steps become the
    number it is sorted by; None: the first result's own, or min. threshold: a step that scores below it is marked.
    Raises RequestError for an unknown aggregation; OSError if the file cannot be written.
    """
    shown = list(rows)
    recipes_own = next((row.scores.aggregation for row in shown if isinstance(row.scores, StepScores)), "min")
    aggregation = aggregation or recipes_own
    check_aggregation(aggregation)
    judged = [JudgedRow.of(row, aggregation, threshold) for row in shown]
    page = _page(judged, title, subtitle, aggregation, threshold)
    target = Path(path)
    target.write_bytes(page.encode("utf-8", "replace"))  # a lone surrogate in a text must not cost the whole page
    return target


def _page(judged: Sequence[JudgedRow], title: str, subtitle: str, aggregation: str, threshold: float) -> str:
    style, script = (
        resources.files(__package__).joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js")
    )
    are_open = len(judged) <= _ALL_OPEN
    solutions = "\n".join(solution(row, i, aggregation, are_open) for i, row in enumerate(judged))
    body = f"""<header>
<h1>{escape(title)}</h1>
{f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""}
{summary(judged, aggregation, threshold)}
</header>
{_CONTROLS.format(aggregation=escape(aggregation), count=len(judged))}
<main id="solutions" aria-label="Solutions">
{solutions}
</main>
<p id="nothing" hidden>No solution matches.</p>"""
    shows = shows_images(row.row.question for row in judged)
    return document(title, body, style, script, pictures=shows)


_CONTROLS = """<form id="controls" role="search" hidden>
<label>Sort by <select id="sort">
<option value="given">order given</option>
<option value="score">{aggregation}</option>
<option value="error">first error</option>
<option value="length">number of steps</option>
</select></label>
<label>Order <select id="order">
<option value="asc">low to high</option>
<option value="desc">high to low</option>
</select></label>
<label>Show <select id="show">
<option value="all">all solutions</option>
<option value="error">with an error</option>
<option value="clean">without an error</option>
<option value="missed">not as labelled</option>
<option value="unscored">without scores</option>
</select></label>
<label class="grow">Search <input id="query" type="search" placeholder="words in question, steps, name"></label>
<button id="toggle" type="button">Open all</button>
<output id="count" aria-live="polite">{count} solutions</output>
</form>"""
