"""The rooms of the command line by themselves: answers without files, an output without models, sources that wait."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from wire import RECIPE, expected

from vllm_prm import load_recipe
from vllm_prm.cli.answers import ScoreTask, answers
from vllm_prm.cli.output import Output, ResumeError, Unwritten
from vllm_prm.cli.sources import ModelSource, ServerSource
from vllm_prm.errors import EngineError, RecipeError, RequestError
from vllm_prm.jsonl import Line
from vllm_prm.scores import StepScores

TASK = ScoreTask(load_recipe(str(RECIPE)), {"model": "m"}, aggregate=None, threshold=0.5)


def lines(*counts):
    """One line for each number of steps; 0 makes a line that cannot be scored."""
    return [
        Line(number, "", {"id": number, "question": "q", "steps": [f"{number} {i}" for i in range(count)]})
        for number, count in enumerate(counts, 1)
    ]


def test_answers_come_in_order_batch_by_batch():
    batches = []

    def score(solutions):
        batches.append(len(solutions))
        return [expected(steps) for _, steps in solutions]

    stream = answers(iter(lines(1, 0, 2, 3, 1)), TASK, score, batch_size=2)
    first = next(stream)
    assert batches == [2]  # nothing is scored before it is asked for
    everything = [first, *stream]
    assert batches == [2, 2]
    assert [answer.line.number for answer in everything] == [1, 2, 3, 4, 5]
    assert [answer.ends_batch for answer in everything] == [False, False, True, False, True]
    assert [answer.error is None for answer in everything] == [True, False, True, True, True]
    assert everything[3].fields["step_scores"] == list(expected(["4 0", "4 1", "4 2"]).step_scores)


@pytest.mark.parametrize(("asked", "used", "first"), [(None, 0.0, 1), (0.5, 0.5, 0)])
def test_a_step_is_wrong_below_the_recipes_threshold_unless_asked_otherwise(asked, used, first):
    task = ScoreTask(load_recipe("pure-prm"), {}, aggregate=None, threshold=asked)
    assert task.made_by["threshold"] == used
    (answer,) = answers(lines(2), task, lambda solutions: [StepScores((0.2, -0.4), threshold=0.0)], batch_size=1)
    assert answer.fields["first_error"] == first


def test_a_result_that_does_not_fit_its_steps_is_no_answer():
    (answer,) = answers(lines(2), TASK, lambda solutions: [expected(["one"])], batch_size=1)
    assert answer.error == "line 1: 1 scores came back for 2 steps; none of them is used"
    assert "step_scores" not in answer.fields


def written(path, *counts):
    with Output(path) as output:
        for answer in answers(lines(*counts), TASK, lambda batch: [expected(steps) for _, steps in batch], 10):
            output.append(answer)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EngineError("away"), OSError("disk full")])
def test_what_stops_a_run_says_how_it_can_go_on(tmp_path, error):
    path = tmp_path / "out.jsonl"
    with pytest.raises(type(error)), Output(path):
        raise error
    assert error.__notes__ == [f"{path} is whole up to its last line; the same command goes on from there"]


def test_what_was_not_to_be_written_is_lost(capfd):
    interrupt = KeyboardInterrupt()
    with suppress(KeyboardInterrupt), Unwritten() as output:
        output.append(next(answers(lines(0), TASK, lambda batch: [], 1)))
        raise interrupt
    assert interrupt.__notes__ == ["Nothing of it was written; with -o FILE a run can be continued by the same command"]
    assert capfd.readouterr().out == ""


def test_the_same_command_would_overwrite_again(tmp_path):
    path, interrupt = tmp_path / "out.jsonl", KeyboardInterrupt()
    stream = answers(lines(1, 1), TASK, lambda batch: [expected(steps) for _, steps in batch], 1)
    with suppress(KeyboardInterrupt), Output(path, overwrite=True) as output:
        output.append(next(stream))
        raise interrupt
    assert "the same command without --overwrite goes on from there" in interrupt.__notes__[0]


@pytest.mark.parametrize("error", [RequestError("wrong"), RecipeError("no recipe"), ResumeError("foreign")])
def test_the_same_command_is_no_advice_where_it_would_fail_again(tmp_path, error):
    with pytest.raises(type(error)), Output(tmp_path / "out.jsonl"):
        raise error
    assert not hasattr(error, "__notes__")


def test_nothing_is_thrown_away_before_there_is_an_answer(tmp_path):
    path = tmp_path / "out.jsonl"
    written(path, 1, 2)
    before = path.read_bytes() + b'{"half'
    path.write_bytes(before)
    error = EngineError("the engine did not start")
    with pytest.raises(EngineError), Output(path, overwrite=True):
        raise error
    assert error.__notes__ == [f"{path} is as it was"]
    assert path.read_bytes() == before
    with Output(path, overwrite=True) as output:
        assert list(output.earlier(iter(lines(1, 2)), TASK)) == []
    assert path.read_bytes() == b""  # so it is with an input without lines


def test_earlier_answers_are_given_again(tmp_path):
    path = tmp_path / "out.jsonl"
    written(path, 1, 0)
    remaining = iter(lines(1, 0, 2))
    with Output(path) as output:
        earlier = list(output.earlier(remaining, TASK))
    assert [answer.line.number for answer in earlier] == [1, 2]
    assert earlier[0].fields["step_scores"] == list(expected(["1 0"]).step_scores)
    assert earlier[1].error is not None
    assert next(remaining).number == 3


def test_an_output_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match="is no regular file, so it cannot be continued"), Output(tmp_path):
        pass


def test_making_a_source_asks_nobody():
    threads = threading.active_count()
    server = ServerSource(  # 9: nothing listens there
        *("http://127.0.0.1:9", None, None),
        **{"batch_size": None, "solutions_per_request": 16, "patience_s": 1, "recipe": None, "tokenizer": None},
    )
    model = ModelSource("nobody/nothing", None, ["--no-such-option"], batch_size=7)
    assert (server.batch_size, model.batch_size, model.name) == (128, 7, "nobody/nothing")
    assert threading.active_count() == threads
    with pytest.raises(EngineError, match="http://127.0.0.1:9/v1/models does not name a model"):
        _ = server.name
    with pytest.raises(RecipeError, match="no recipe is known for 'nobody/nothing'"):
        _ = model.recipe
