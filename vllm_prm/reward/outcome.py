"""Reward: what a completion's step scores are worth, and what there is to log about them."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_prm.errors import RequestError
from vllm_prm.scores import StepScores

_LOWEST = 0.0  # of every aggregation of scores in [0, 1] but sum_log, whose highest it is


@dataclass(frozen=True)
class Reward:
    """One completion's reward.

    result: its step scores, or the error that says why it has none. aggregation: how step scores become one number.
    """

    result: StepScores | Exception
    aggregation: str

    @property
    def value(self) -> float | None:
        """None: this completion cannot be scored."""
        return self.result.aggregate(self.aggregation) if isinstance(self.result, StepScores) else None

    @property
    def step_scores(self) -> tuple[float, ...]:
        """[steps]; empty for a completion that cannot be scored."""
        return self.result.step_scores if isinstance(self.result, StepScores) else ()

    @property
    def error(self) -> str | None:
        """Why there are no step scores."""
        return str(self.result) if isinstance(self.result, Exception) else None

    def value_or(self, on_error: float | None = None) -> float:
        """The value, or what stands for it: `on_error`; None: 0, the lowest reward.

        Raises RequestError for None where 0 is the highest one (sum_log), whether it is needed or not: training
        should stop at its first reward, not at the first completion that cannot be scored.
        """
        if on_error is None and self.aggregation == "sum_log":
            raise RequestError(
                "what is the reward of a completion that cannot be scored? sum_log gives 0 to the best, so it has to "
                "be said: on_error=-100, for example"
            )
        value = self.value
        return (_LOWEST if on_error is None else on_error) if value is None else value

    def logs(self, on_error: float | None = None) -> dict[str, float]:
        """Numbers for charts, always the same ones. on_error: as in value_or, for the three aggregates."""
        stand_in = _LOWEST if on_error is None else on_error
        return {
            "prm_steps": float(len(self.step_scores)),
            **{f"prm_{name}": Reward(self.result, name).value_or(stand_in) for name in ("min", "mean", "last")},
            "prm_unscored": float(self.value is None),
        }
