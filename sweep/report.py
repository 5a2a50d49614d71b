"""docs/architectures.md from sweep/results.jsonl: a row for every architecture that the installed vLLM registers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sweep.reasons import REASONS
from sweep.run import results

DOCUMENT = Path(__file__).parents[1] / "docs" / "architectures.md"
OUTCOMES = {"verified": "verified", "refused": "refused", "stopped": "not buildable here", "failed": "not right"}

HEADER = """# Architectures

Which of the generation architectures registered in vLLM {version} give the step scores of their own output head.
Written by `make sweep`, which takes about 40 minutes on a CPU; a test fails if a row is missing.

*Verified* means: built from a small configuration with random weights, whose logits differ by more than 0.1 across
tags and across tokens; prompts with up to nine steps scored by the real engine, one at a time and together; and every
score compared with the same model's whole `compute_logits` at the tags. The largest difference, of probabilities and of
raw logits, is in the table; the limit is 1e-5 in float32. `columns` reads the rows of the scoring tokens only,
`whole head` runs all of it and picks (see `vllm_prm/engine/head.py`). Multimodal models were given prompts of text.

*Not buildable here* and *not tried* say nothing about whether it works: it did not start on a CPU with the
configuration that the sweep makes, for the reason given, or the sweep has not come to it.

{summary}
"""


def main() -> None:
    from vllm import __version__
    from vllm.model_executor.models import registry

    rows = results()
    groups = {"Text": registry._TEXT_GENERATION_MODELS, "Multimodal": registry._MULTIMODAL_MODELS}
    parts, summary = [], []
    for title, names in groups.items():
        cells = [_cells(name, rows.get(name, {})) for name in names]
        counts = Counter(outcome for _, outcome, *_ in cells)
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        summary.append(f"{title}: {len(cells)} architectures, {said}.")
        lines = ["| architecture | outcome | head | difference | note |", "|---|---|---|---|---|"]
        lines += [f"| `{name}` | " + " | ".join(rest) + " |" for name, *rest in sorted(cells)]
        parts.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    version = __version__.split("+")[0]
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(HEADER.format(version=version, summary=" ".join(summary)) + "\n" + "\n".join(parts))
    print(f"{DOCUMENT}: {' '.join(summary)}")


def _cells(name: str, row: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Name, outcome, head, difference, note."""
    outcome = OUTCOMES[row["outcome"]] if row else "not tried"
    note = REASONS.get(name, row.get("why", "the sweep has no small configuration for it yet, or has not run")).replace(
        "|", "/"
    )
    if outcome != "verified":
        return name, outcome, "", "", note
    head = "columns" if row["head"] == "columns" else "whole head"
    notes = [row["head"]] if head != "columns" else []
    notes += [row["dtype"]] if row["dtype"] != "float32" else []
    notes += [REASONS[name]] if name in REASONS else []
    return name, outcome, head, f"{max(row['difference'], row['logit_difference']):.1e}", "; ".join(notes)


if __name__ == "__main__":
    main()
