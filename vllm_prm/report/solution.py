"""The HTML of one solution: a line that sums it up, and its question and steps to open below it."""

from __future__ import annotations

from html import escape

from vllm_prm.report.cells import cells, depth, side
from vllm_prm.report.judged import JudgedRow
from vllm_prm.report.pictures import pictures

_EXCERPT = 140  # characters of the question in a closed summary: about one line of the page's 68 rem


def solution(judged: JudgedRow, index: int, aggregation: str, is_open: bool) -> str:
    """index: its place, from 0, in the order given."""
    row = judged.row
    fault = f'<p class="error">{escape(str(row.scores))}</p>' if row.step_scores is None else ""
    steps = "\n".join(_step(judged, i) for i in range(len(row.steps)))
    return f"""<details class="solution" {_data(judged, index)}{" open" if is_open else ""}>
{_summary(judged, index, aggregation)}
<p class="question" dir="auto">{escape(row.question_text)}</p>{pictures(row.question)}{fault}
<ol class="steps">
{steps}
</ol>
</details>"""


def _data(judged: JudgedRow, index: int) -> str:
    """The attributes that report.js sorts and filters by."""
    data = {
        "index": index,
        "score": "" if judged.aggregate is None else judged.aggregate,
        "error": "" if judged.first_error is None else judged.first_error,
        "length": len(judged.row.steps),
        "missed": int(judged.is_missed),
    }
    return " ".join(f'data-{name}="{value}"' for name, value in data.items())


def _summary(judged: JudgedRow, index: int, aggregation: str) -> str:
    row = judged.row
    total = "-" if judged.aggregate is None else f"{judged.aggregate:.3f}"
    name = row.name or f"Solution {index + 1}"
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in row.tags)
    return f"""<summary><span class="total" title="{escape(aggregation)}">{total}</span>\
<span class="name">{escape(name)}</span>{tags}{_status(judged)}\
<span class="strip" aria-hidden="true">{cells(row.step_scores or (), judged.threshold)}</span>\
<span class="excerpt">{escape(_excerpt(row.question_text))}</span></summary>"""


def _status(judged: JudgedRow) -> str:
    """Badges: what the scores say, and what the labels say if that is something else."""
    if judged.row.step_scores is None:
        return '<b class="badge none">not scored</b>'
    if judged.first_error is None:
        status = '<span class="badge clean">no error</span>'
    else:
        status = f'<b class="badge first">first error: step {judged.first_error + 1}</b>'
    if judged.is_missed:
        label = "no error" if judged.labelled_error is None else f"step {judged.labelled_error + 1}"
        status += f' <b class="badge missed">labelled: {label}</b>'
    return status


def _step(judged: JudgedRow, i: int) -> str:
    row, threshold = judged.row, judged.threshold
    marks = '<b class="badge first">first error</b> ' if i == judged.first_error else ""
    if (row.wrong is not None and i in row.wrong) or (row.labels is not None and row.labels[i] is False):
        marks += '<span class="badge label">labelled wrong</span> '
    text = f'<span class="text" dir="auto">{marks}{escape(row.steps[i])}</span>'
    if row.step_scores is None:
        return f'<li><span class="score">-</span>{text}</li>'
    score = row.step_scores[i]
    return (
        f'<li class="{side(score, threshold)}" style="{depth(score, threshold)}">'
        f'<span class="score">{score:.3f}</span>{text}</li>'
    )


def _excerpt(text: str) -> str:
    """One line of a text, for the closed summary."""
    line = " ".join(text[: 2 * _EXCERPT].split())
    return line if len(line) <= _EXCERPT else line[: _EXCERPT - 1] + "…"
