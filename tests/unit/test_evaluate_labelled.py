"""Data sets with a label for each step: how a line is read, and the figures that come of it, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_files import plain, rated, rated_step, tagged, write

from vllm_prm.errors import RequestError
from vllm_prm.evaluate import LabelledResult, evaluate, load_benchmark
from vllm_prm.recipes import load_recipe
from vllm_prm.report import benchmark_rows

PRM800K = Path(__file__).parents[1] / "data" / "prm800k-1.jsonl"


def read(path, *rows, **options):
    return load_benchmark(write(path, *rows), **options)


def labels(benchmark):
    return [one.labels for split in benchmark.splits.values() for example in split for one in example.solutions]


def found(first_error):
    return (first_error.num_error, first_error.num_correct, first_error.accuracy, first_error.f1)


# ---- PRM800K


def test_a_real_line_of_prm800k():
    """Its last step was not chosen, for it is the error that ends phase 2; four other candidates stand beside it."""
    row = json.loads(PRM800K.read_text(encoding="utf-8"))
    benchmark = load_benchmark(PRM800K)
    ((question, steps),) = benchmark.solutions
    assert question == row["question"]["problem"]
    assert list(steps) == row["question"]["pre_generated_steps"][:3]
    assert labels(benchmark) == [(True, True, False)]
    assert labels(load_benchmark(PRM800K, neutral="bad")) == [(False, False, False)]
    assert labels(load_benchmark(PRM800K, neutral="skip")) == [(None, None, False)]
    bad = load_recipe({"base": "trl-prm", "neutral": "bad"})
    assert labels(load_benchmark(PRM800K, recipe=bad)) == [(False, False, False)]
    assert labels(load_benchmark(PRM800K, recipe=bad, neutral="good")) == [(True, True, False)]
    assert labels(load_benchmark(PRM800K, recipe=load_recipe("trl-prm"))) == [(True, True, False)]  # it does not say
    (page,) = benchmark_rows(benchmark, [[0.9, 0.8, 0.1]])
    assert (page.wrong, page.tags, page.labels) == ([2], ("found_error",), (True, True, False))


def test_alternatives_stand_behind_the_steps_before_them():
    benchmark = load_benchmark(PRM800K, all_completions=True)
    path, *others = benchmark.solutions
    assert [steps[:2] for _, steps in others] == [path[1][:2]] * 4
    assert len({steps[2] for _, steps in benchmark.solutions}) == 5
    assert [one[2] for one in labels(benchmark)] == [False, True, False, True, True]
    assert all(one[:2] == (None, None) for one in labels(benchmark)[1:])
    assert len(load_benchmark(PRM800K, all_completions=True, neutral="skip").solutions) == 2  # neutral ones are no use
    result = evaluate(benchmark, [(0.9, 0.4, 0.1)] + [(0.1, 0.1, 0.6)] * 4)
    assert (result.overall.steps, result.overall.solutions) == (7, 1)  # the shared steps count once
    assert result.overall.accuracy == pytest.approx(100 * 5 / 7)
    assert found(result.overall.first_error) == (1, 0, 0.0, None)
    rows = benchmark_rows(benchmark, [(0.9, 0.4, 0.1)] * 5)
    assert [row.wrong for row in rows] == [[2], None, None, None, None]
    assert rows[1].tags == ["another step 3"]


def test_the_path_of_phase_1(tmp_path):
    """Other candidates than the first are chosen, people wrote a step, and the last line goes nowhere."""
    written = {"text": "0.7", "rating": None, "source": "human", "flagged": False, "corrected_rating": None}
    row = rated(
        rated_step(("0.1", -1), ("0.9", 1), chosen=1),
        rated_step(("0.2", -1), ("0.3", -1), chosen=None, human_completion=written),
        rated_step(("0.8", 0)),
        rated_step(("0.4", -1), ("0.5", -1), chosen=None),
        rated_step(("0.6", 1)),  # of no path: nothing was chosen before it
        finish="give_up",
    )
    benchmark = read(tmp_path / "a.jsonl", row)
    assert benchmark.solutions == [("q", ("0.9", "0.7", "0.8"))]
    assert labels(benchmark) == [(True, True, True)]
    everything = read(tmp_path / "a.jsonl", row, all_completions=True)
    assert [steps for _, steps in everything.solutions[1:]] == [
        ("0.1",),
        ("0.9", "0.2"),
        ("0.9", "0.3"),
        ("0.9", "0.7", "0.8", "0.4"),
        ("0.9", "0.7", "0.8", "0.5"),
    ]
    as_text = rated(rated_step(("0.2", -1), ("0.3", -1), chosen=None, human_completion="0.7"))
    assert read(tmp_path / "a.jsonl", as_text).solutions == [("q", ("0.7",))]


def test_an_only_candidate_that_was_not_chosen_ends_the_path(tmp_path):
    row = rated(rated_step(("a", 1)), rated_step(("b", -1), chosen=None), rated_step(("c", 1)))
    assert read(tmp_path / "a.jsonl", row).solutions == [("q", ("a", "b"))]


def test_steps_without_a_rating_count_nowhere(tmp_path):
    """Flagged, rated null, or nothing at all: the steps behind them are measured still."""
    flagged = rated_step(("0.1", 1))
    flagged["completions"][0]["flagged"] = True
    rows = [
        rated(rated_step(("0.2", None)), flagged, rated_step(("0.9", 1)), rated_step(("0.3", -1))),
        rated(rated_step(("0.9", None))),
        rated(rated_step(("0.9", 1)), finish="bad_problem"),
        rated({"completions": None, "human_completion": None, "chosen_completion": None}),
        rated(),
        {**rated(), "label": {"steps": None, "finish_reason": None}},
    ]
    benchmark = read(tmp_path / "a.jsonl", *rows)
    assert labels(benchmark) == [(None, None, True, False)]
    result = evaluate(benchmark, plain(benchmark))
    assert (result.overall.steps, result.overall.accuracy, result.overall.left_out) == (2, 100.0, 5)
    assert found(result.overall.first_error) == (1, 0, 100.0, None)
    assert "5 lines have no labelled step" in result.table()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            rated(rated_step(("a", 2))),
            r"line 1, label, steps\[0\], completions\[0\]: rating is the number 2; expected -1,",
        ),
        (rated(rated_step(("a", True))), "rating is the boolean true"),
        (rated(rated_step(("a", "1"))), 'rating is the text "1"'),
        (rated(rated_step(("a", [1]))), "rating is a list of 1"),
        (
            rated(rated_step(("a", 1), chosen=1)),
            r"label, steps\[0\]: chosen_completion is the number 1; expected the ind",
        ),
        (rated(rated_step(("a", 1), chosen="x")), 'chosen_completion is the text "x"; expected a whole number'),
        (rated(rated_step(chosen=None, human_completion=["a"])), "human_completion is a list of 1; expected text"),
        (rated(rated_step(chosen=None, human_completion={})), "steps.0., human_completion: no field 'text'"),
        ({**rated(), "question": {}}, "line 1, question: no field 'problem'; expected text there"),
        (rated({"completions": [1]}), r"steps\[0\]: completions\[0\] is the number 1; expected an object"),
    ],
)
def test_a_bad_line_of_prm800k(tmp_path, row, says):
    with pytest.raises(RequestError, match=says):
        read(tmp_path / "a.jsonl", row)


# ---- Math-Shepherd


def test_math_shepherd_puts_signs_and_tags_together(tmp_path):
    row = tagged("How many?", ("Step 1: 3 - 1 = 2", "+"), ("Step 2: 2 + +1 = 3", "+"), ("Step 3: so 4", "-"))
    benchmark = read(tmp_path / "a.jsonl", row)
    assert benchmark.solutions == [("How many?", ("Step 1: 3 - 1 = 2", "Step 2: 2 + +1 = 3", "Step 3: so 4"))]
    assert labels(benchmark) == [(True, True, False)]
    ((example,),) = benchmark.splits.values()
    assert example.solutions[0].tags == ("GSM8K",)


@pytest.mark.parametrize(
    ("row", "question", "steps", "signs"),
    [
        # A tag inside the question, and one behind it, as a dozen lines of the set have them.
        (tagged("Find x.", ("", "+"), ("Note: whole Step 1: a", "-"), ("b", "+")), "Find x.  \nNote: whole", 2, "-+"),
        (tagged("Who?", ("", "-"), ("Step 1: a", "+")), "Who?", 1, "+"),
        (tagged("Who?", ("", "-"), ("a", "+"), ("b", "-")), "Who?", 2, "+-"),
        (tagged("Find it.", ("", "-"), ("a", "+")), "Find it.", 1, "+"),
        (tagged("Who? Where?", ("a", "+"), ("b?", "-")), "Who? Where?", 2, "+-"),
        (tagged("Who?", ("step 1: a", "+")), "Who?", 1, "+"),
    ],
)
def test_lines_of_math_shepherd_that_are_written_otherwise(tmp_path, row, question, steps, signs):
    benchmark = read(tmp_path / "a.jsonl", row)
    ((read_question, read_steps),) = benchmark.solutions
    assert (read_question.split(), len(read_steps)) == (question.split(), steps)
    assert labels(benchmark) == [tuple(sign == "+" for sign in signs)]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"input": "q Step 1: a", "label": "q Step 1: a"}, "line 1: input is the text .*; expected a tag ки"),
        (
            {"input": "Find x. aки", "label": "Find x. a+"},
            "input is the text .*; expected a question, and behind it Step 1",
        ),
        ({"input": "q? aки bки", "label": "q? a+ b"}, "at character 7, for tag 2, stands ''"),
        ({"input": "q? aки bки", "label": "q? a+ cc+"}, "line 1: label is .* at character 7, for tag 2, stands 'c'"),
        ({"input": "q? aки", "label": 1}, "label is the number 1; expected text"),
    ],
)
def test_a_bad_line_of_math_shepherd(tmp_path, row, says):
    with pytest.raises(RequestError, match=says):
        read(tmp_path / "a.jsonl", row)


# ---- TRL's form, and the figures of all three


def stepwise(scores, right):
    return {"prompt": "q", "completions": [str(score) for score in scores], "labels": list(right)}


def test_the_figures_by_hand(tmp_path):
    rows = [
        stepwise([0.9, 0.8, 0.2, 0.1], [True, True, False, False]),  # found
        stepwise([0.9, 0.6], [True, False]),  # missed
        stepwise([0.9, 0.95], [1, 1]),  # passed
        stepwise([0.3], [True]),  # a false alarm
    ]
    other = write(tmp_path / "other.jsonl", stepwise([0.5], [True]))
    benchmark = load_benchmark([write(tmp_path / "mine.jsonl", *rows), other])
    result = evaluate(benchmark, plain(benchmark))
    assert isinstance(result, LabelledResult)
    mine = result.splits[0]
    assert (mine.name, mine.solutions, mine.steps) == ("mine", 4, 9)
    assert mine.good_steps == pytest.approx(100 * 6 / 9)
    assert mine.accuracy == pytest.approx(100 * 7 / 9)
    assert mine.roc_auc == pytest.approx(100 * 17 / 18)  # of 18 pairs only (0.3, 0.6) is the wrong way round
    assert found(mine.first_error) == (2, 2, 50.0, 50.0)
    # Bins: 0.1 (0 of 1 right), 0.2 (0 of 1), 0.3 (1 of 1), 0.6 (0 of 1), 0.8 (1 of 1), 0.9 0.9 0.9 0.95 (4 of 4).
    assert mine.calibration_error == pytest.approx(100 * (0.1 + 0.2 + 0.7 + 0.6 + 0.2 + 0.35) / 9)
    assert (result.overall.name, result.overall.steps) == ("all", 10)
    assert found(result.overall.first_error) == (2, 3, 60.0, pytest.approx(2 * 50 * (200 / 3) / (50 + 200 / 3)))
    as_json = json.loads(json.dumps(result.to_dict()))
    assert as_json["benchmark"] == "stepwise"
    assert as_json["neutral"] is None
    assert [each["steps"] for each in as_json["splits"][0]["bins"]] == [0, 1, 1, 1, 0, 0, 1, 0, 1, 4]
    table = result.table()
    assert "10 bins" in table
    assert "94.4" in table
    assert "neutral" not in table
    assert evaluate(benchmark, plain(benchmark), threshold=0.2).splits[0].accuracy == pytest.approx(100 * 7 / 9)


def test_solutions_without_scores(tmp_path):
    benchmark = read(tmp_path / "a.jsonl", stepwise([0.9], [True]), stepwise([0.1], [False]))
    result = evaluate(benchmark, [None, (0.1,)])
    assert (result.overall.steps, result.overall.unscored, result.overall.roc_auc) == (1, 1, None)
    assert found(result.overall.first_error) == (1, 1, 50.0, 0.0)
    assert "1 solutions could not be scored" in result.table()
    none = evaluate(benchmark, [None, None])
    assert (none.overall.accuracy, none.overall.calibration_error) == (None, None)
    with pytest.raises(RequestError, match="has 1 steps and 2 scores"):
        evaluate(benchmark, [(0.1, 0.2), (0.1,)])


def test_scores_that_are_no_probabilities(tmp_path):
    benchmark = read(tmp_path / "a.jsonl", stepwise([-0.5, 0.5], [False, True]))
    result = evaluate(benchmark, plain(benchmark), threshold=0.0)
    assert (result.overall.accuracy, result.overall.roc_auc, result.overall.calibration_error) == (100.0, 100.0, None)
    assert "outside 0 to 1" in result.table()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            stepwise([0.9], [True, False]),
            "line 1: labels is a list of 2; expected one label for each of the 1 completions",
        ),
        (stepwise([0.9], [-1]), r"labels\[0\] is the number -1; expected true or false, or 1 or 0"),
        (stepwise([0.9], [0.5]), r"labels\[0\] is the number 0.5"),
        (stepwise([], []), "completions is a list of 0; expected one text or more"),
        (
            {**stepwise([0.9], [True]), "prompt": [{"role": "user", "content": "q"}]},
            'part 1 of prompt has no type; expected {"type": "text"',
        ),
    ],
)
def test_a_bad_line_of_the_stepwise_form(tmp_path, row, says):
    with pytest.raises(RequestError, match=says):
        read(tmp_path / "a.jsonl", row)


# ---- which format


def test_the_format_can_be_forced(tmp_path):
    both = {**stepwise([0.9], [True]), "input": "Who? aки", "label": "Who? a-"}
    assert labels(read(tmp_path / "a.jsonl", both)) == [(False,)]
    assert labels(read(tmp_path / "a.jsonl", both, format="stepwise")) == [(True,)]
    with pytest.raises(RequestError, match="no field 'steps'"):
        read(tmp_path / "a.jsonl", both, format="processbench")
    with pytest.raises(RequestError, match="no benchmark format 'trl'; there are processbench, .*, stepwise"):
        read(tmp_path / "a.jsonl", both, format="trl")


def test_question_and_label_are_prm800k_only_if_they_are_objects(tmp_path):
    with pytest.raises(RequestError, match="no known benchmark has the fields question, steps, label"):
        read(tmp_path / "a.jsonl", {"question": "q", "steps": ["a"], "label": 0})


def test_readings_that_a_format_does_not_have(tmp_path):
    path = write(tmp_path / "a.jsonl", stepwise([0.9], [True]))
    with pytest.raises(RequestError, match="neutral='skip'.*: stepwise files rate no step neutral"):
        load_benchmark(path, neutral="skip")
    assert load_benchmark(path, recipe=load_recipe({"base": "trl-prm", "neutral": "bad"})).solutions
    with pytest.raises(RequestError, match="stepwise files have no alternatives"):
        load_benchmark(path, all_completions=True)
    with pytest.raises(RequestError, match='neutral is the text "maybe"; expected good, bad or skip'):
        load_benchmark(PRM800K, neutral="maybe")
    with pytest.raises(RequestError, match="--tune-on a.: no threshold is chosen for stepwise files"):
        evaluate(load_benchmark(path), [(0.9,)], tune_on="a")
