"""What the scores of a row say by the page's one aggregation and threshold. Knows no HTML.

Worked out once for each row; the summary and the list of solutions both show it.
"""

from __future__ import annotations

from dataclasses import dataclass

from vllm_prm.report.rows import ReportRow


@dataclass(frozen=True)
class JudgedRow:
    """aggregate: None without scores. first_error: index of the first step below the threshold, None without one."""

    row: ReportRow
    threshold: float
    aggregate: float | None
    first_error: int | None

    @classmethod
    def of(cls, row: ReportRow, aggregation: str, threshold: float) -> JudgedRow:
        return cls(row, threshold, row.aggregate(aggregation), row.first_error(threshold))

    @property
    def labelled_error(self) -> int | None:
        """Index of the first step that is known to be wrong; None if no step is, or nothing is known."""
        return min(self.row.wrong or (), default=None)

    @property
    def is_comparable(self) -> bool:
        """Whether there are both scores and labels."""
        return self.row.wrong is not None and self.row.step_scores is not None

    @property
    def is_missed(self) -> bool:
        """Whether the first step below the threshold is another than the first one that is known to be wrong.

        Of the steps with labels, if there are such: a step of which nothing is known is no mistake of the scores.
        """
        return self.is_comparable and self._first_error_with_label != self.labelled_error

    @property
    def labelled_steps(self) -> list[tuple[float, bool]]:
        """The score of each step that has a label, and whether it is right."""
        pairs = zip(self.row.step_scores or (), self.row.labels or (), strict=False)  # one of them may be missing
        return [(score, label) for score, label in pairs if label is not None]

    @property
    def _first_error_with_label(self) -> int | None:
        if self.row.labels is None or self.row.step_scores is None:
            return self.first_error
        steps = enumerate(zip(self.row.step_scores, self.row.labels, strict=True))
        return next((i for i, (score, label) in steps if label is not None and score < self.threshold), None)
