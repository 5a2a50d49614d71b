"""The HTML of a report.

Everything is written into the page as escaped HTML, with no data for scripts to build it from: it can be read, searched
and printed without them, and a text can be nothing but text. The script only sorts and filters what is there, and a
content security policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from vllm_prm.aggregate import check_aggregation
from vllm_prm.report.rows import ReportRow
from vllm_prm.scores import FIRST_ERROR_THRESHOLD, StepScores

_ALL_OPEN = 20  # solutions: with more of them the page starts as a list of one-line summaries
_BINS = 20  # of the histogram
_EXCERPT = 140  # characters of the question in a closed summary: about one line of the page's 68 rem


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
    own = next((row.scores.aggregation for row in shown if isinstance(row.scores, StepScores)), "min")
    page = _page(shown, title, subtitle, aggregation or own, threshold)
    target = Path(path)
    target.write_bytes(page.encode("utf-8", "replace"))  # a lone surrogate in a text must not cost the whole page
    return target


def _page(rows: Sequence[ReportRow], title: str, subtitle: str, how: str, threshold: float) -> str:
    check_aggregation(how)
    style, script = (
        resources.files(__package__).joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    totals = [row.aggregate(how) for row in rows]
    solutions = "\n".join(_solution(i, row, totals[i], how, threshold, len(rows)) for i, row in enumerate(rows))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""}
{_summary(rows, totals, how, threshold)}
</header>
{_CONTROLS.format(how=escape(how), count=len(rows))}
<main id="solutions" aria-label="Solutions">
{solutions}
</main>
<p id="nothing" hidden>No solution matches.</p>
<script>{script}</script>
</body>
</html>
"""


_CONTROLS = """<form id="controls" role="search" hidden>
<label>Sort by <select id="sort">
<option value="given">order given</option>
<option value="score">{how}</option>
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


def _summary(rows: Sequence[ReportRow], totals: Sequence[float | None], how: str, threshold: float) -> str:
    known = [total for total in totals if total is not None]
    wrong = sum(row.first_error(threshold) is not None for row in rows)
    labelled = [row for row in rows if row.wrong is not None and row.step_scores is not None]
    agree = sum(not _missed(row, threshold) for row in labelled)
    facts = [
        ("solutions", f"{len(rows):,}"),
        ("steps", f"{sum(len(row.steps) for row in rows):,}"),
        (f"mean {how}", f"{sum(known) / len(known):.3f}" if known else "none"),
        (f"with a step below {threshold:g}", _share(wrong, len(known))),
    ]
    if labelled:
        facts.append(("first error as labelled", _share(agree, len(labelled))))
    if len(known) < len(rows):
        facts.append(("not scored", str(len(rows) - len(known))))
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    legend = "".join(
        f'<span class="cell {_side(score, threshold)}" style="--t:{_depth(score, threshold):.2f}"></span>'
        for score in (i / 10 for i in range(11))
    )
    return f"""<dl class="facts">{cells}</dl>
<div class="figures">
{_histogram(known, how)}
<p class="legend"><span>step score 0</span><span class="scale" aria-hidden="true">{legend}</span><span>1</span>
<span class="note">orange: below {threshold:g}; blue: at or above it. <b class="badge first">first error</b>
marks the first orange step.</span></p>
</div>"""


def _histogram(totals: Sequence[float], how: str) -> str:
    """How many solutions have which aggregate, as bars."""
    if not totals:
        return ""
    low, high = min(0.0, *totals), max(1.0, *totals)
    if how == "sum_log":
        low, high = min(totals), max(*totals, min(totals) + 1e-9)  # some width, if all are equal
    counts = [0] * _BINS
    for total in totals:
        counts[min(int((total - low) / (high - low) * _BINS), _BINS - 1)] += 1
    bars = "".join(
        f'<i style="--h:{count / max(counts):.3f}" title="{low + (high - low) * i / _BINS:.3g} to '
        f'{low + (high - low) * (i + 1) / _BINS:.3g}: {count}"></i>'
        for i, count in enumerate(counts)
    )
    alternative = f"Histogram of {how} over {len(totals)} solutions, from {low:.3g} to {high:.3g}"
    return (
        f'<figure class="histogram"><div role="img" aria-label="{escape(alternative)}">{bars}</div>'
        f"<figcaption><span>{low:.3g}</span><span>{escape(how)} per solution</span><span>{high:.3g}</span></figcaption>"
        "</figure>"
    )


def _solution(index: int, row: ReportRow, total: float | None, how: str, threshold: float, count: int) -> str:
    first = row.first_error(threshold)
    scores = row.step_scores
    name = row.name or f"Solution {index + 1}"
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in row.tags)
    if scores is None:
        status, strip = '<b class="badge none">not scored</b>', ""
        body = f'<p class="error">{escape(str(row.scores))}</p>'
    else:
        status = (
            '<span class="badge clean">no error</span>'
            if first is None
            else f'<b class="badge first">first error: step {first + 1}</b>'
        )
        strip = "".join(
            f'<i class="cell {_side(s, threshold)}" style="--t:{_depth(s, threshold):.2f}"></i>' for s in scores
        )
        body = ""
    if _missed(row, threshold):
        status += f' <b class="badge missed">labelled: {_labelled(row)}</b>'
    steps = "\n".join(_step(i, row, first, threshold) for i in range(len(row.steps)))
    shown = "-" if total is None else f"{total:.3f}"
    data = {
        "index": index,
        "score": "" if total is None else total,
        "error": "" if first is None else first,
        "length": len(row.steps),
        "missed": int(_missed(row, threshold)),
    }
    attributes = " ".join(f'data-{key}="{value}"' for key, value in data.items())
    return f"""<details class="solution" {attributes}{" open" if count <= _ALL_OPEN else ""}>
<summary><span class="total" title="{escape(how)}">{shown}</span><span class="name">{escape(name)}</span>{tags}{status}\
<span class="strip" aria-hidden="true">{strip}</span>\
<span class="excerpt">{escape(_excerpt(row.question))}</span></summary>
<p class="question" dir="auto">{escape(row.question)}</p>{body}
<ol class="steps">
{steps}
</ol>
</details>"""


def _excerpt(text: str) -> str:
    """One line of a text, for the closed summary."""
    line = " ".join(text[: 2 * _EXCERPT].split())
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 1] + "…"


def _step(i: int, row: ReportRow, first: int | None, threshold: float) -> str:
    scores = row.step_scores
    marks = '<b class="badge first">first error</b> ' if i == first else ""
    if row.wrong is not None and i in row.wrong:
        marks += '<span class="badge label">labelled wrong</span> '
    text = f'<span class="text" dir="auto">{marks}{escape(row.steps[i])}</span>'
    if scores is None:
        return f'<li><span class="score">-</span>{text}</li>'
    return (
        f'<li class="{_side(scores[i], threshold)}" style="--t:{_depth(scores[i], threshold):.2f}">'
        f'<span class="score">{scores[i]:.3f}</span>{text}</li>'
    )


def _missed(row: ReportRow, threshold: float) -> bool:
    """Whether the first step below the threshold is another than the first one that is known to be wrong."""
    if row.wrong is None or row.step_scores is None:
        return False
    return row.first_error(threshold) != min(row.wrong, default=None)


def _labelled(row: ReportRow) -> str:
    return f"step {min(row.wrong) + 1}" if row.wrong else "no error"


def _side(score: float, threshold: float) -> str:
    return "low" if score < threshold else "high"


def _depth(score: float, threshold: float) -> float:
    """How strong the colour is: 0 at the threshold, 1 at a score of 0 or 1."""
    reach = threshold if score < threshold else 1 - threshold
    return min(1.0, abs(score - threshold) / reach) if reach > 0 and math.isfinite(score) else 1.0


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.1f} %)" if whole else "none"
