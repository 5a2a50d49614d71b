"""`vllm-prm` against a server without a model: formats, messages, exit codes, what the output is."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys

import pytest
from benchmark_files import rated, rated_step, write
from wire import BROKEN, CRASH, TOO_LONG, expected, speaking

from vllm_prm import __version__
from vllm_prm.cli import main

GOOD = {"question": "q", "steps": ["one", "two"]}


@pytest.fixture(scope="module")
def url():
    with speaking() as (address, _):
        yield address


@pytest.fixture
def score(url, tmp_path):
    """score(*lines, *options) -> (exit code, output lines); lines are texts or JSON values."""

    def run(lines, *options, command="score"):
        in_path = tmp_path / "in.jsonl"
        encoded_lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        in_path.write_bytes(b"".join(line + b"\n" for line in encoded_lines))
        out_path = tmp_path / "out.jsonl"
        code = main([command, str(in_path), "-o", str(out_path), "--server", url, "-q", *options])
        return code, [json.loads(line) for line in out_path.read_text("utf-8").splitlines()]

    return run


def test_a_line_comes_back_with_its_scores(score):
    code, (line,) = score([{"id": 7, **GOOD, "label": -1}])
    result = expected(GOOD["steps"])
    assert code == 0
    assert line == {
        "id": 7,
        **GOOD,
        "label": -1,
        "step_scores": list(result.step_scores),
        "score": min(result.step_scores),
        "first_error": result.first_error(),
        "scored_by": {"model": "fake-prm", "recipe": "tiny-prm", "aggregate": "min", "threshold": 0.5},
    }


def test_formats(score):
    lines = [
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        {"question": "q", "solution": "Step 1: one\nStep 2: two"},
        {"problem": "q", "steps": ["one"]},
        b"",
        b"\t" + json.dumps(GOOD).encode() + b"\r",
        {"question": "q", "steps": ["Gr\u00fc\u00dfe \u4f60 \U0001f600"]},
    ]
    code, outputs = score(lines)
    assert code == 0
    assert [len(line["step_scores"]) for line in outputs] == [2, 2, 1, 2, 1]
    assert outputs[1]["steps"] == ["Step 1: one", "Step 2: two"]
    assert outputs[4]["steps"] == ["Gr\u00fc\u00dfe \u4f60 \U0001f600"]


@pytest.mark.parametrize("returned", ["probabilities", "logits"])
def test_more_than_scores(score, returned):
    _, (line,) = score([GOOD], "--return", returned, "--aggregate", "product", "--threshold", "0")
    result = expected(GOOD["steps"])
    assert line[returned] == [list(row) for row in getattr(result, returned)]
    assert line["labels"] == ["good", "bad"]
    assert line["score"] == result.aggregate("product")
    assert line["first_error"] is None


BAD = [
    (b"not json", "line 2: not JSON: Expecting value at column 1; expected one object a line"),
    (b'{"question": "q", "steps": ["a"]', "not JSON: Expecting ',' delimiter at column 33"),
    (b'{"question": "\xff", "steps": ["a"]}', "not UTF-8: byte 0xff at byte 15"),
    (b"[" * 100_000, "not JSON that can be read"),
    ([1, 2], "a list of 2, not an object; expected one object a line"),
    ("text", 'the text "text", not an object'),
    (None, "null, not an object"),
    ({}, 'no "question" (or "problem") among the fields (none); expected'),
    ({"steps": ["a"], "text": ""}, 'no "question" (or "problem") among the fields "steps", "text"'),
    ({"question": "q"}, 'no "steps" and no "solution" among the fields "question"'),
    ({"question": "q", "candidates": [["a"]]}, "`vllm-prm rank` takes those"),
    ({"question": 3, "steps": ["a"]}, '"question" is the number 3; expected text'),
    (
        {"question": "q", "steps": "a b"},
        'steps is one text; expected a list with one text for each step. A text in one piece goes into "solution"',
    ),
    ({"question": "q", "steps": []}, "steps is empty: there are no steps to score; give at least one"),
    ({"question": "q", "steps": ["a", None]}, "step 2 of 2 is null; expected text"),
    ({"question": "q", "steps": [{"text": "a"}]}, "step 1 of 1 is an object of 1 field; expected text"),
    ({"question": "q", "solution": ["a"]}, '"solution" is a list of 1; expected text'),
    ({"question": "q", "solution": " \n"}, '"solution": there is no step in'),
    (b'{"question": "\\ud800", "steps": ["a"]}', '"question": character 0 is half of a surrogate pair, U+D800'),
    ({"question": "q", "steps": [TOO_LONG]}, "line 2: step 1 no longer fits"),
    ({"question": "q", "steps": [BROKEN]}, "failed with HTTP 500: it broke"),
    ({"question": "q", "steps": ["a", CRASH]}, "failed with HTTP 500: it crashed"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_line_gets_an_error_and_the_others_their_scores(score, capsys, line, message):
    code, outputs = score([GOOD, line, GOOD])
    assert code == 1
    assert [len(output.get("step_scores", [])) for output in outputs] == [2, 0, 2]
    assert message in outputs[1]["error"]
    assert "scored_by" not in outputs[1]
    if isinstance(line, dict):
        assert {name: outputs[1][name] for name in line} == line
    assert '1 of 3 lines could not be scored: look for "error" in the output' in capsys.readouterr().err


def test_scores_of_an_earlier_run_are_replaced(score):
    old = {"step_scores": [0.0], "score": 0.0, "first_error": 0, "scored_by": {"model": "old"}, "error": "x"}
    code, outputs = score([{**GOOD, **old}, {"question": "q", **old}])
    assert code == 1
    assert outputs[0]["scored_by"]["model"] == "fake-prm"
    assert "error" not in outputs[0]
    assert "step_scores" not in outputs[1]


def test_rank(score):
    candidates = [["one", "two"], "Step 1: three\nStep 2: four", ["five"]]
    code, (line,) = score([{"question": "q", "candidates": candidates}], command="rank")
    results = [expected(steps) for steps in (["one", "two"], ["Step 1: three", "Step 2: four"], ["five"])]
    assert code == 0
    assert line["candidates"] == candidates
    assert line["scores"] == [result.aggregate("min") for result in results]
    assert line["order"] == sorted(range(3), key=lambda i: -line["scores"][i])
    assert line["best"] == line["order"][0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD, 'no "candidates" among the fields "question", "steps"'),
        ({"question": "q", "candidates": []}, '"candidates" is a list of 0; expected a list of at least one candidate'),
        (
            {"question": "q", "candidates": [["a"], 3]},
            "candidate 1 is the number 3; expected a list with one text for each step",
        ),
        ({"question": "q", "candidates": [["a"], ["a", " "]]}, "step 2 of 2 in candidate 1 is empty; leave it out"),
        ({"question": "q", "candidates": [["a"], [TOO_LONG]]}, "candidate 1: step 1 no longer fits"),
    ],
)
def test_a_bad_candidate_is_named(score, line, message):
    code, outputs = score([line], command="rank")
    assert code == 1
    assert message in outputs[0]["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score"], "neither of --model and --server given"),
        (["score", "--model", "m", "--server", "http://h"], "both of --model and --server given"),
        (["score", "--server", "http://h", "--tokenizer", "t"], "which needs --recipe as well"),
        (["score", "--server", "http://h", "--", "--dtype", "half"], "engine options after -- cannot be used"),
        (["score", "--server", "localhost:8000"], "base_url is 'localhost:8000'; expected an address such as"),
        (["score", "nofile.jsonl", "--server", "http://h"], "no file 'nofile.jsonl' to read"),
        (["score", "-", "-", "--server", "http://h"], "stdin (-) can be read once only"),
        (["score", "--overwrite", "--server", "http://h"], "--overwrite needs -o FILE"),
        (["score", "-o", "no/such/out", "--server", "http://h"], "no folder 'no/such' to write out to"),
    ],
)
def test_a_wrong_command_line_is_told_in_a_sentence(capsys, monkeypatch, words, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_model_without_a_recipe(capsys, tmp_path):
    in_path = tmp_path / "in.jsonl"
    in_path.write_text(json.dumps(GOOD))
    assert main(["score", str(in_path), "--model", "nobody/nothing"]) == 1
    assert "no recipe is known for 'nobody/nothing': name one, --recipe RECIPE, of " in capsys.readouterr().err


def test_argparse_refuses_what_it_can(capsys):
    for words in (["nothing"], ["score", "--aggregate", "max"], ["score", "--batch-size", "0"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
    assert "no aggregation 'max'; expected one of 'min'" in capsys.readouterr().err


def test_stdin_to_stdout(url):
    lines = "".join(json.dumps({**GOOD, "n": n}) + "\n" for n in range(300))
    command = [sys.executable, "-m", "vllm_prm.cli", "score", "--server", url]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert [json.loads(line)["n"] for line in done.stdout.splitlines()] == list(range(300))
    assert "300 lines, all scored" in done.stderr


def test_help_answers_at_once_and_without_torch_or_vllm():
    code = (
        "import sys; from vllm_prm.cli import parser; parser().format_help(); print({'vllm', 'torch'} & {*sys.modules})"
    )
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 1  # seconds of CPU, not of a clock: the machine may be busy


def test_version_and_help(capsys):
    for words in (["--version"], ["--help"], *([name, "--help"] for name in ("score", "rank", "evaluate", "doctor"))):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert f"vllm-prm {__version__}" in out
    assert "vllm-prm score solutions.jsonl -o scored.jsonl --model peiyi9979/math-shepherd-mistral-7b-prm" in out


def test_recipes(capsys, tmp_path):
    assert main(["recipes"]) == 0
    assert "math-shepherd\n    models: math-shepherd-mistral-7b-prm" in capsys.readouterr().out
    assert main(["recipes", "math-shepherd"]) == 0
    shown = json.loads(capsys.readouterr().out)
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({**shown, "name": "mine"}))
    assert main(["recipes", "--check", str(mine)]) == 0
    assert "ok    mine: step tag ▁ки; good = ▁+ (weight 1), bad = ▁- (weight 0)" in capsys.readouterr().out
    mine.write_text(json.dumps({**shown, "stepp_tag": 3}))
    assert main(["recipes", "--check", str(mine)]) == 1
    assert "stepp_tag: Unexpected keyword argument" in capsys.readouterr().err
    assert main(["recipes", "nope"]) == 1
    assert "no recipe 'nope'" in capsys.readouterr().err


def test_evaluate_keeps_scores_and_needs_no_server_the_second_time(url, tmp_path, capsys):
    rows = [{"problem": f"p{i}", "steps": [f"a{i}", f"b{i}"], "label": i % 3 - 1} for i in range(30)]
    in_path, scores_path = tmp_path / "split.jsonl", tmp_path / "scores.jsonl"
    in_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["evaluate", str(in_path), "-o", str(scores_path), "--server", url, "-q"]
    assert main(command) == 0
    table = capsys.readouterr().out
    predicted = [expected(row["steps"]).first_error() for row in rows]
    hits = [(-1 if p is None else p) == row["label"] for p, row in zip(predicted, rows, strict=True)]
    wrong = [hit for hit, row in zip(hits, rows, strict=True) if row["label"] >= 0]
    assert f"{100 * sum(wrong) / len(wrong):.1f}" in table
    assert len(scores_path.read_text().splitlines()) == 30
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"][0]["num_error"] == 20
    assert main(["evaluate", str(in_path), "--server", url, "-q", "--tune-on", "nope"]) == 2
    assert "no split 'nope' to choose the threshold on; there are split" in capsys.readouterr().err


def test_evaluate_without_an_output_says_where_the_reasons_are(url, tmp_path, capfd):
    in_path = tmp_path / "split.jsonl"
    rows = [{"problem": "p", "steps": [step], "label": -1} for step in ("a", TOO_LONG)]
    in_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["evaluate", str(in_path), "--json", "--server", url, "-q"]) == 1
    printed = capfd.readouterr()
    assert json.loads(printed.out)["splits"]
    assert "1 of 2 lines could not be scored: with -o FILE, that file says why" in printed.err


def test_evaluate_reads_labelled_steps_and_writes_a_page(url, tmp_path, capsys):
    rows = [
        rated(rated_step((f"a{i}", 1), (f"b{i}", -1)), rated_step((f"c{i}", 0)), rated_step((f"d{i}", -1), chosen=None))
        for i in range(20)
    ]
    rows.append(rated(rated_step((TOO_LONG, 1))))
    in_path, page = write(tmp_path / "phase2_test.jsonl", *rows), tmp_path / "page.html"
    command = ["evaluate", str(in_path), "--server", url, "-q", "--report", str(page), "--json"]
    options = ["--neutral", "skip", "--all-completions", "--format", "prm800k", "--threshold", "0.3"]
    assert main([*command, *options]) == 1  # a solution was too long
    result = json.loads(capsys.readouterr().out)
    assert (result["benchmark"], result["neutral"], result["threshold"]) == ("prm800k", "skip", 0.3)
    overall = result["overall"]
    assert (overall["solutions"], overall["steps"], overall["unscored"]) == (21, 60, 1)
    scored = [
        (score, is_good)
        for i in range(20)
        for steps, labels in (((f"a{i}", f"c{i}", f"d{i}"), (True, None, False)), ((f"b{i}",), (False,)))
        for score, is_good in zip(expected(list(steps)).step_scores, labels, strict=True)
        if is_good is not None
    ]
    hits = [(score >= 0.3) == is_good for score, is_good in scored]
    assert overall["accuracy"] == pytest.approx(100 * sum(hits) / len(hits))
    html = page.read_text("utf-8")
    for text in (
        "prm800k: phase2_test",
        "model fake-prm recipe tiny-prm",
        "Expected calibration error",
        "another step 1",
    ):
        assert text in html
    assert html.count("<details") == 41
    assert "too long" in html  # why the last one has no scores


@pytest.mark.parametrize(("options", "counts"), [([], "bad"), (["--neutral", "good"], "good")])
def test_evaluate_counts_neutral_steps_as_the_recipe_says(tmp_path, capsys, options, counts):
    in_path = write(tmp_path / "a.jsonl", rated(rated_step(("a", 0)), rated_step(("b", 1))))
    with speaking(recipe={"neutral": "bad"}) as (address, _):
        assert main(["evaluate", str(in_path), "--server", address, "-q", "--json", *options]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["neutral"] == counts
        assert result["overall"]["good_steps"] == (50 if counts == "bad" else 100)
        other = write(tmp_path / "b.jsonl", {"problem": "p", "steps": ["a"], "label": -1})  # has no neutral steps
        assert main(["evaluate", str(other), "--server", address, "-q", "--json"]) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--neutral", "skip"], "processbench files rate no step neutral"),
        (["--format", "trl"], "no benchmark format 'trl'"),
        (["--report", "/nowhere/page.html"], "no folder '/nowhere' to write page.html to"),
        (["--report", "same", "-o", "same"], "--report and -o both name same"),
    ],
)
def test_evaluate_is_told_what_does_not_fit(url, tmp_path, capsys, options, says):
    in_path = write(tmp_path / "a.jsonl", {"problem": "p", "steps": ["a"], "label": -1})
    assert main(["evaluate", str(in_path), "--server", url, "-q", *options]) == 2
    assert says in capsys.readouterr().err


def test_report(score, tmp_path, capsys):
    score([{"id": "first", **GOOD, "label": 1}, {"question": "q<b>"}])
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "out.jsonl"), "-o", str(page)]) == 1
    html = page.read_text("utf-8")
    assert "first" in html
    assert "q&lt;b&gt;" in html
    assert "2 solutions, 1 without scores" in capsys.readouterr().err
