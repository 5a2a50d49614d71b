"""Benchmark files: what is read, what is refused with the line it stands on, and scores that do not fit a file."""

from __future__ import annotations

import json

import pytest
from benchmark_files import plain, prm_row, solution, write

from vllm_prm.errors import RequestError
from vllm_prm.evaluate import evaluate, load_benchmark

ROWS = [solution([0.9, 0.2, 0.8], 1), solution([0.9, 0.2, 0.1], 2)]
QUESTION = {"question": "q", "answer": "7", "candidates": [{"steps": ["0.6"], "answer": "5"}]}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", r"a.jsonl, line 2: not JSON"),
        ("[1]", r"line 2: a list of 1, not an object; expected one object a line"),
        ({**ROWS[0], "label": 3}, r"line 2: label is the number 3; expected a step's index from 0 to 2, or -1"),
        ({**ROWS[0], "label": "1"}, 'line 2: label is the text "1"; expected a whole number'),
        ({**ROWS[0], "label": True}, "line 2: label is the boolean true; expected a whole number"),
        ({**ROWS[0], "steps": []}, "line 2: steps is a list of 0; expected one text or more"),
        ({**ROWS[0], "steps": ["a", 1]}, r"line 2: steps\[1\] is the number 1; expected text"),
        ({**ROWS[0], "steps": "a b"}, 'line 2: steps is the text "a b"; expected a list of texts'),
        ({"problem": "q", "steps": ["a"]}, "line 2: no field 'label'; expected a whole number there"),
        ({**ROWS[0], "problem": "a\ud83d"}, "line 2: problem: character 1 is half of a surrogate pair, U.D83D"),
        ({**ROWS[0], "steps": ["a", "\ud83d", "b"]}, r"line 2: steps\[1\]: character 0 is half of a surrogate pair"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, says):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + (row if isinstance(row, str) else json.dumps(row)) + "\n")
    with pytest.raises(RequestError, match=says):
        load_benchmark(path)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question": "q", "candidates": [{"steps": ["a"]}]}, r"line 1, candidates\[0\]: whether it is right"),
        ({"question": "q", "candidates": []}, "line 1: candidates is"),
        ({"question": "q", "candidates": [1]}, r"candidates\[0\] is the number 1; expected an object"),
        (
            {"question": "q", "candidates": [{"steps": ["a"], "correct": "yes"}]},
            'correct is the text "yes"; expected true or false',
        ),
        (prm_row(["a"], [1.5]), r"error_steps\[0\] is the number 1.5; expected a whole number"),
        ({"text": "x"}, "no known benchmark has the fields text. Expected processbench: problem, steps, label; prmben"),
    ],
)
def test_other_bad_lines(tmp_path, row, says):
    with pytest.raises(RequestError, match=says):
        load_benchmark(write(tmp_path / "a.jsonl", row))


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    a, b = write(tmp_path / "a.jsonl", ROWS[0]), write(tmp_path / "b.jsonl", QUESTION)
    for paths, says in (
        (tmp_path / "none.jsonl", "cannot read"),
        (tmp_path / "empty.jsonl", "is empty"),
        ([], "no benchmark files"),
        ([a, b], "is a best-of-n file and .* a processbench one"),
        ([a, a, a], "given twice"),
    ):
        with pytest.raises(RequestError, match=says):
            load_benchmark(paths)


def test_odd_but_right_files_are_read(tmp_path):
    row = solution([0.9], -1, problem="a\u2028b")
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(row, ensure_ascii=False).encode() + b"\r\n\r\n")
    assert load_benchmark(tmp_path / "a.jsonl").solutions == [("a\u2028b", ("0.9",))]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[", r"a.json: not a JSON list"),
        (b" [" * 100_000, r"a.json: not a JSON list"),
        (b'[{"problem": "q", "steps": ["a"], "label": 0}, 7]', r"a.json, entry 1: the number 7, not an object"),
        (b'[{"problem": "q", "steps": ["a"], "label": 5}]', r"a.json, entry 0: label is the number 5"),
        (b"[]", "a.json is empty"),
        (b'[{"problem": "\xff"}]', "a.json: not a JSON list: 'utf-8' codec"),
        (b'{"problem": "\xff"}', "a.json, line 1: not UTF-8"),
    ],
)
def test_what_is_no_list_of_objects(tmp_path, content, says):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RequestError, match=says):
        load_benchmark(tmp_path / "a.json")


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf\r\n" + json.dumps(ROWS).encode())
    assert len(load_benchmark(tmp_path / "a.json").solutions) == 2


def test_a_step_without_text_is_for_the_scorer_to_refuse(tmp_path):
    """One solution counts as unscored then; the file's others are measured."""
    row = {**solution([0.9], -1), "steps": ["a", " "]}
    assert load_benchmark(write(tmp_path / "a.jsonl", row)).solutions == [("q", ("a", " "))]


def test_scores_that_do_not_fit(tmp_path):
    benchmark = load_benchmark(write(tmp_path / "a.jsonl", *ROWS))
    with pytest.raises(RequestError, match="1 scores for 2 solutions"):
        evaluate(benchmark, [(0.5,)])
    with pytest.raises(RequestError, match="solution x-0 has 3 steps and 2 scores"):
        evaluate(benchmark, [(0.5, 0.5), (0.5, 0.5, 0.5)])
    with pytest.raises(RequestError, match="no split 'math'"):
        evaluate(benchmark, plain(benchmark), tune_on="math")
