"""What Ray Data's actors make of a batch: every row comes out, scored or with its own error. No Ray is needed."""

from __future__ import annotations

import importlib.util
from functools import partial

import pytest

from vllm_prm.errors import EngineError, PRMError, RequestError, UnreachableError
from vllm_prm.integrations.ray_data import StepScorer
from vllm_prm.recipes import load_recipe
from vllm_prm.scorer import Scorer, checked_items, settled
from vllm_prm.scores import StepScores

if not importlib.util.find_spec("pyarrow"):
    pytest.skip("pyarrow is not installed: make setup", allow_module_level=True)
import pyarrow

ROWS = [
    {"id": 1, "question": "q", "steps": ["0.9", "0.4", "0.8"]},
    {"id": 2, "problem": "q", "solution": "Step 1: 0.7\nStep 2: 0.6"},
    {"id": 3, "question": "q"},
    {"id": 4, "question": "q", "steps": ["0.9", " "]},
    {"id": 5, "question": "q", "steps": ["NaN"]},
    {"id": 6, "question": "q", "steps": ["0.1"]},
]


class ReadsScores(Scorer):
    """Steps end with their scores; `fault` is what comes of steps that are no number."""

    recipe = load_recipe("math-shepherd")

    def __init__(self, fault: PRMError | None = None) -> None:
        self.fault = fault or EngineError("the logits of step 0 are not all finite")

    def score_batch(self, items, *, on_error="raise", progress=True):
        return settled([self.one(*item) for item in checked_items(items, on_error)], on_error)

    def one(self, question, steps):
        values = [float(step.split()[-1]) for step in steps]
        if not all(value == value for value in values):
            return self.fault
        mass = tuple(values) if self.recipe.answer_mass else ()
        return StepScores(tuple(values), aggregation="min", answer_mass=mass)


class Judges(ReadsScores):
    recipe = load_recipe("judge")


def table(rows):
    """As Ray reads them: a field that one row has is null in the others."""
    texts = dict.fromkeys(("question", "problem", "solution"), pyarrow.string())
    schema = pyarrow.schema({"id": pyarrow.int64(), **texts, "steps": pyarrow.list_(pyarrow.string())})
    return pyarrow.Table.from_pylist(rows, schema=schema)


def test_every_row_comes_out_in_its_place():
    out = StepScorer(ReadsScores)(table(ROWS))
    rows = out.to_pylist()
    assert [row["id"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step_scores"] for row in rows] == [[0.9, 0.4, 0.8], [0.7, 0.6], None, None, None, [0.1]]
    assert [row["score"] for row in rows] == [0.4, 0.6, None, None, None, 0.1]
    assert [row["first_error"] for row in rows] == [1, None, None, None, None, 0]
    assert rows[1]["steps"] == ["Step 1: 0.7", "Step 2: 0.6"]
    wrong = [row["error"] for row in rows]
    assert [error is None for error in wrong] == [True, True, False, False, False, True]
    assert 'no "steps" and no "solution"' in wrong[2]
    assert "step 2 of 2 is empty" in wrong[3]
    assert "not all finite" in wrong[4]


def test_options_are_those_of_the_command_line():
    row = StepScorer(ReadsScores, "product", 0.3)(table(ROWS[:1])).to_pylist()[0]
    assert row["score"] == pytest.approx(0.9 * 0.4 * 0.8)
    assert row["first_error"] is None
    with pytest.raises(RequestError, match="median"):
        StepScorer(ReadsScores, "median")


def test_a_judges_rows_have_its_mass():
    (row,) = StepScorer(Judges)(table(ROWS[:1])).to_pylist()
    assert row["answer_mass"] == [0.9, 0.4, 0.8]


def test_what_an_earlier_run_wrote_is_written_again():
    scorer = StepScorer(ReadsScores)
    once = scorer(table(ROWS))
    assert scorer(once).equals(once)
    assert scorer.scored([{**ROWS[5], "error": "old", "step_scores": [1.0, 1.0]}])[0]["step_scores"] == [0.1]


def test_batches_have_one_schema():
    """Ray puts them together: also one in which no row is scored, or every row."""
    scorer = StepScorer(ReadsScores)
    first, *others = [scorer(table(rows)).schema for rows in (ROWS, ROWS[:1], ROWS[2:3], ROWS[5:])]
    assert all(schema == first for schema in others)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [([ROWS[4]] * 3, EngineError("out of memory")), (ROWS, UnreachableError("no one listens"))],
)
def test_what_is_no_rows_fault_ends_the_run(rows, fault):
    with pytest.raises(type(fault), match=str(fault)):
        StepScorer(partial(ReadsScores, fault))(table(rows))
