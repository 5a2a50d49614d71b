"""What a benchmark is: a Format, its examples, and the Result that scores make of them.

To add a benchmark, write one file with a Format, its example and its result, and name the format in `loading.FORMATS`.
Loading, scoring, evaluating and reporting use what is declared here and know no benchmark by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_args

from vllm_prm.errors import RequestError
from vllm_prm.evaluate.records import Record
from vllm_prm.evaluate.solutions import Solution, SolutionScores
from vllm_prm.inputs import shown
from vllm_prm.questions import Question
from vllm_prm.recipes.types import Neutral


class Example(Protocol):
    """What one object of a benchmark's file holds."""

    @property
    def solutions(self) -> tuple[Solution, ...]:
        """The solutions to score: one, or all candidates of a question."""


class Result(Protocol):
    """A benchmark's metrics; percentages are 0 to 100."""

    def table(self) -> str:
        """For a terminal."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""


@dataclass(frozen=True)
class Options:
    """How to measure. A format uses those that its metrics have; `evaluate` explains them.

    aggregation: a name in `vllm_prm.aggregate.AGGREGATIONS`.
    """

    threshold: float
    tune_on: str | None
    aggregation: str
    key: Callable[[str], Hashable] | None


@dataclass(frozen=True)
class Reading:
    """How to read labels that can be read in several ways.

    neutral: what a step counts as that is rated neither right nor wrong; "skip": it is not measured. None: as the
    format's authors count it. all_completions: also measure the alternatives of a step that were rated and not taken.
    """

    neutral: Neutral | None = None
    all_completions: bool = False

    def __post_init__(self) -> None:
        """Raises RequestError for another word."""
        if self.neutral not in (None, *get_args(Neutral)):
            raise RequestError(f"neutral is {shown(self.neutral)}; expected good, bad or skip")


ExampleT = TypeVar("ExampleT", bound=Example)


class Format(ABC, Generic[ExampleT]):
    """A benchmark's file format and its metrics.

    name: of the benchmark, in messages.
    fields: a file whose first object has all of these fields is of this format.
    tunes: whether its metrics can choose the threshold themselves, on one split.
    neutral: what a step counts as that is rated neither right nor wrong; None: its files have no such rating.
    """

    name: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    tunes: ClassVar[bool] = False
    neutral: Neutral | None = None

    def fits(self, fields: Mapping[str, Any]) -> bool:
        """Whether a file whose first object has these fields is of this format."""
        return all(field in fields for field in self.fields)

    def read_as(self, reading: Reading) -> Format[ExampleT]:
        """This format, reading labels so. Raises RequestError if its labels can be read in one way only."""
        if reading.neutral is not None:
            raise RequestError(f"--neutral (neutral={reading.neutral!r}): {self.name} files rate no step neutral")
        if reading.all_completions:
            raise RequestError(f"--all-completions: {self.name} files have no alternatives of single steps")
        return self

    @abstractmethod
    def parse(self, record: Record) -> ExampleT:
        """The example that an object of the file holds. Raises RequestError that names the object's place."""

    @abstractmethod
    def evaluate(
        self,
        splits: Mapping[str, Sequence[ExampleT]],
        scores: Mapping[str, Sequence[Sequence[SolutionScores]]],
        options: Options,
    ) -> Result:
        """The metrics of these examples. scores: by split, then one entry per example, with one per solution of it.

        Raises RequestError if scores do not fit the steps, or the options do not fit the splits.
        """


@dataclass(frozen=True)
class Benchmark(Generic[ExampleT]):
    """The examples of one or more files of one format. splits: by file name, in order."""

    format: Format[ExampleT]
    splits: Mapping[str, tuple[ExampleT, ...]]

    def check_tune_on(self, split: str | None) -> None:
        """Raises RequestError if the threshold cannot be chosen on this split. None: it is not to be chosen."""
        if split is None:
            return
        if not self.format.tunes:
            raise RequestError(f"tune_on (--tune-on {split}): no threshold is chosen for {self.format.name} files")
        if split not in self.splits:
            raise RequestError(f"no split {split!r} to choose the threshold on; there are {', '.join(self.splits)}")

    @property
    def solutions(self) -> list[tuple[Question, tuple[str, ...]]]:
        """Every (question, steps) to score, in the order in which scores are expected.

        Images that lie in files are named by their paths, which `score_benchmark` puts the images in the place of.
        """
        return [
            (solution.question, solution.steps)
            for examples in self.splits.values()
            for example in examples
            for solution in example.solutions
        ]
