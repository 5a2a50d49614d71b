"""docs/architectures.md from the rows of results: a table row for every architecture that a tested vLLM registers.

Measures nothing: an architecture without a row of results is shown as not tried. `python -m sweep.report`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sweep.kinds import KINDS
from sweep.reasons import REASONS
from sweep.rows import GENERATION_ROWS, SCORE_ROWS, Row, last_rows
from sweep.versions import registered_by_version, spans

DOCUMENT = Path(__file__).parents[1] / "docs" / "architectures.md"
OUTCOMES = {"verified": "verified", "refused": "refused", "stopped": "not buildable here", "failed": "not right"}

# Of a header with rows of 0.33.0, which has no build for CPUs.
OVERLAID = " 0.33.0 here is its Python over 0.32.0's compiled kernels\n([versions.md](versions.md))."
BATCH_LIMIT = 1e-5  # of a probability, as score.py allows it for a prompt alone
BATCH_NOTE = "prompt by prompt; with several prompts in a batch its scores move by {:.1g}"

HEADER = """# Architectures

Which of the generation architectures that vLLM {first} to {last} register give the step scores of their own output
head. Written by `make sweep`, which takes about 40 minutes on a CPU; a test fails if a row is missing. The column
*vLLM* says which versions register an architecture. Its row was measured with one of them: with {version}, or, where
the note names another, with the newest that has it.{overlaid}

*Verified* means: built from a small configuration with random weights, whose logits differ by more than 0.1 across
tags and across tokens; prompts with up to nine steps scored by the real engine, one at a time; and every score
compared with the same model's whole `compute_logits` at the tags. The largest difference, of probabilities and of raw
logits, is in the table; the limit is 1e-5 in float32. `columns` reads the rows of the scoring tokens only,
`whole head` runs all of it and picks (`vllm_prm/engine/worker/head_check.py`). Multimodal models were given prompts of
text. The same prompts then went in one batch; a note says where that moved the scores by more than the limit. That
happens to two kinds of layers only (multi-head latent attention and short convolutions on a CPU), whose generation,
without any code of ours, moves as well (last table).

*Refused* means that the engine does not start, and says why. *Not buildable here* says nothing about whether it works:
it did not start on a CPU with the configuration that the sweep makes, for the reason given.

{summary}
"""

GENERATION_SECTION = """## Against a generation engine

The rows above compare columns with the whole head of the same pooling model. Here nothing of ours is on the other side:
a second engine generates text with the same weights, is asked for the log-probabilities of the whole vocabulary at
every prompt position (`prompt_logprobs`), and its distribution after each step tag, renormalised over the scoring
tokens, is compared with the PRM engine's answer. {count} architectures, at least one for each kind of head; the largest
difference of a probability is in the table, the limit is 1e-4 (`python -m sweep.oracle`).

*In a batch* is of the generation engine alone: how far its own probabilities move when the prompts are run together.
Where that is more than the limit, the difference cannot be expected to be less: vLLM's kernels move, before any head.

| kind of head | architecture | steps | largest difference | generation in a batch |
|---|---|---|---|---|
"""


def main() -> None:
    rows = last_rows(SCORE_ROWS)
    by_version = registered_by_version()
    versions = Counter(row["vllm"] for row in rows.values())
    main_version = versions.most_common(1)[0][0]
    sections, summary = [], []
    for title, version_spans in spans(by_version).items():
        cells = [_cells(name, span, rows.get(name, {}), main_version) for name, span in version_spans.items()]
        counts = Counter(outcome for _, _, outcome, *_ in cells)
        by_outcome = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        summary.append(f"{title}: {len(cells)} architectures, {by_outcome}.")
        lines = ["| architecture | vLLM | outcome | head | difference | note |", "|---|---|---|---|---|---|"]
        lines += [f"| `{name}` | " + " | ".join(others) + " |" for name, *others in sorted(cells)]
        sections.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    sections.append(_generation_section(last_rows(GENERATION_ROWS), main_version))
    header = HEADER.format(
        first=next(iter(by_version)),
        last=next(reversed(by_version)),
        version=main_version,
        overlaid=OVERLAID if "0.33.0" in versions else "",
        summary=" ".join(summary),
    )
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(header + "\n" + "\n".join(sections))
    print(f"{DOCUMENT}: {' '.join(summary)}")


def _cells(name: str, span: str, row: Row, main_version: str) -> tuple[str, str, str, str, str, str]:
    """Name, vLLM's versions, outcome, head, difference, note; `row` is empty for an architecture that was not tried."""
    outcome = OUTCOMES[row["outcome"]] if row else "not tried"
    notes = [] if row.get("vllm", main_version) == main_version else [f"measured with vLLM {row['vllm']}"]
    if outcome != "verified":
        why = row.get("why", "the sweep has not run")
        reason = (
            why.removeprefix("UnsupportedError: ") if outcome == "refused" else REASONS.get(name) or _error_cell(why)
        )
        return name, span, outcome, "", "", "; ".join([*notes, reason])
    head = "columns" if row["head"] == "columns" else "whole head"
    notes += [row["head"]] if head != "columns" else []
    notes += [row["dtype"]] if row["dtype"] != "float32" else []
    notes += [REASONS[name]] if name in REASONS else []
    if (in_a_batch := row["batch_difference"]) > BATCH_LIMIT:
        notes.append(BATCH_NOTE.format(in_a_batch))
    difference = max(row["difference"], row["logit_difference"])
    return name, span, outcome, head, f"{difference:.1e}", "; ".join(notes)


def _generation_section(rows: dict[str, Row], main_version: str) -> str:
    """The table of KINDS, whose rows of results are `rows`; vLLM's version stands where it is not `main_version`."""
    lines, compared = [], 0
    for name, kind in KINDS.items():
        row = rows.get(name, {"why": "not run"})
        compared += "why" not in row
        difference = _error_cell(row["why"]) if "why" in row else f"{row['difference']:.1e}"
        batch = f"{row['generation_batch_difference']:.0e}" if "generation_batch_difference" in row else ""
        version = "" if row.get("vllm", main_version) == main_version else f" (vLLM {row['vllm']})"
        lines.append(f"| {kind} | `{name}`{version} | {row.get('steps', '')} | {difference} | {batch} |")
    return GENERATION_SECTION.format(count=compared) + "\n".join(lines) + "\n"


def _error_cell(error: str) -> str:
    """An error as a table cell."""
    if error.startswith("LookupError"):
        return "its configuration class comes with the checkpoint's own code, and the sweep has no stand-in for it"
    text = " ".join(error.split()).replace("|", "/")
    return f'"{text[:180]}{"..." if len(text) > 180 else ""}"'


if __name__ == "__main__":
    main()
