"""Interruptions: killed runs go on without losing or repeating a line, and foreign files are not continued."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import hears_interrupts
from wire import expected, speaking

from vllm_prm.cli import main
from vllm_prm.cli.output import encoded

LINES = 10_000
GOOD = {"question": "q", "steps": ["one", "two"]}


def values(count):
    """Lines of different lengths; one in seven has no steps, a few are no JSON (None)."""
    return [
        None if n % 977 == 5 else {"id": n, "question": f"question {n}", "steps": [f"{n} {i}" for i in range(n % 7)]}
        for n in range(count)
    ]


def written(path, lines):
    path.write_text("".join(("not json" if v is None else json.dumps(v)) + "\n" for v in lines), encoding="utf-8")


def check_all(lines, out_path):
    outputs = [json.loads(line) for line in out_path.read_text("utf-8").splitlines()]
    assert len(outputs) == len(lines)
    for value, output in zip(lines, outputs, strict=True):
        if value is None or not value["steps"]:
            assert "error" in output
        else:
            assert output["id"] == value["id"]
            assert output["step_scores"] == list(expected(value["steps"]).step_scores)


def start(in_path, out_path, url, *options):
    command = [
        sys.executable,
        "-m",
        "vllm_prm.cli",
        "score",
        str(in_path),
        "-o",
        str(out_path),
        "--server",
        url,
        *options,
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_interrupts)


def test_ten_thousand_lines_killed_twice(tmp_path):
    in_path, out_path = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = values(LINES)
    written(in_path, lines)
    with speaking() as (url, seen):
        killed_at = []
        for share in (0.2, 0.6):
            process = start(in_path, out_path, url)
            while not out_path.exists() or out_path.read_bytes().count(b"\n") < share * LINES:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed_at.append(out_path.read_bytes().count(b"\n"))
            assert killed_at[-1] < LINES
            with out_path.open("ab") as file:
                file.write(b'{"id": 1, "half a li')  # as if the kill had come in the middle of a write
        process = start(in_path, out_path, url)
        _, stderr = process.communicate()
    assert process.returncode == 1  # because of the bad lines
    assert f"has {killed_at[1]:,} lines already; going on after them" in stderr
    check_all(lines, out_path)
    bad = sum(value is None or not value["steps"] for value in lines)
    assert f"{bad:,} of {LINES:,} lines could not be scored" in stderr
    repeated = sum(question.startswith("question") for question in seen) - (LINES - bad)
    assert repeated <= 2 * 128, "more than one batch of work was lost at each kill"


def test_a_server_that_goes_away_and_comes_back(tmp_path):
    in_path, out_path = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = values(1000)
    written(in_path, lines)
    with speaking(most=500) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        process = start(in_path, out_path, url, "--patience", "60", "--batch-size", "32")
        while not out_path.exists() or out_path.read_bytes().count(b"\n") < 200:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
    time.sleep(2)
    assert process.poll() is None
    with speaking(port):
        process.communicate(timeout=120)
    assert process.returncode == 1  # the bad lines
    check_all(lines, out_path)
    assert not any("no answer from" in line for line in out_path.read_text().splitlines())


def test_a_server_that_stays_away_ends_the_run_with_what_to_do(tmp_path):
    in_path, out_path = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = values(1000)
    written(in_path, lines)
    with speaking(most=500) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        process = start(in_path, out_path, url, "--patience", "1", "--batch-size", "32")
        while not out_path.exists() or out_path.read_bytes().count(b"\n") < 200:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the server has scored nothing for" in stderr
    assert f"{out_path} is whole up to its last line; the same command goes on from there" in stderr
    assert out_path.read_bytes().endswith(b"\n")
    with speaking(port):
        assert main(["score", str(in_path), "-o", str(out_path), "--server", url, "-q"]) == 1
    check_all(lines, out_path)


@pytest.fixture
def finished(tmp_path):
    """A finished run of 5 lines: its input, its output, and main's words to run it again."""
    in_path, out_path = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    written(in_path, [{"id": n, **GOOD} for n in range(5)])
    with speaking() as (url, seen):
        words = ["score", str(in_path), "-o", str(out_path), "--server", url, "-q"]
        assert main(words) == 0
        yield in_path, out_path, words, seen


def test_a_finished_run_asks_nothing_more(finished):
    in_path, out_path, words, seen = finished
    before, asked_before = out_path.read_bytes(), seen.count("q")
    assert main(words) == 0
    assert out_path.read_bytes() == before
    assert seen.count("q") == asked_before
    with in_path.open("a") as file:
        file.write(json.dumps({"id": 5, **GOOD}) + "\n")
    assert main(words) == 0
    assert seen.count("q") == asked_before + 1
    assert out_path.read_bytes().startswith(before)
    assert main([*words, "--overwrite"]) == 0
    assert seen.count("q") == asked_before + 1 + 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [{**lines[0], "id": 9}, *lines[1:]], "belongs to another input: its 'id' differs from line 1's"),
        (lambda lines: lines[:3], "has more lines than the input"),
        (lambda lines: [*lines[:4], {"question": "other", "steps": ["a"]}], "line 5 of .* its 'question' differs"),
    ],
)
def test_an_output_of_another_input_is_left_alone(finished, capsys, change, message):
    in_path, out_path, words, _ = finished
    before = out_path.read_bytes()
    written(in_path, change([{"id": n, **GOOD} for n in range(5)]))
    assert main(words) == 1
    stderr = capsys.readouterr().err
    assert re.search(message, stderr), stderr
    assert "start over with --overwrite" in stderr
    assert out_path.read_bytes() == before


def test_other_options_and_foreign_files_are_not_mixed_in(finished, capsys):
    in_path, out_path, words, _ = finished
    assert main([*words, "--aggregate", "last"]) == 1
    assert '"aggregate": "min"' in capsys.readouterr().err
    out_path.write_text('{"precious": "data"}\n')
    assert main(words) == 1
    assert "is not something that this command writes" in capsys.readouterr().err
    assert out_path.read_text() == '{"precious": "data"}\n'
    assert main([*words[:3], str(in_path), *words[4:]]) == 2
    assert "is both input and output" in capsys.readouterr().err


def test_two_runs_do_not_write_one_file(finished, capsys):
    import fcntl

    in_path, out_path, words, _ = finished
    with in_path.open("a") as file:
        file.write(json.dumps(GOOD) + "\n")
    with out_path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(words) == 1
    assert "another process is writing" in capsys.readouterr().err


def test_every_cut_of_the_output_is_mended(tmp_path):
    """Wherever the file is cut, it becomes the same again."""
    in_path, out_path = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    written(in_path, [{"id": n, "question": "ü", "steps": ["é"]} for n in range(3)])
    with speaking() as (url, _):
        words = ["score", str(in_path), "-o", str(out_path), "--server", url, "-q"]
        assert main(words) == 0
        whole = out_path.read_bytes()
        for cut in range(0, len(whole), 13):
            out_path.write_bytes(whole[:cut])
            assert main(words) == 0
            assert out_path.read_bytes() == whole


def test_interrupted_by_hand(tmp_path):
    in_path, out_path = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    written(in_path, values(1000))
    with speaking(most=500) as (url, _):
        process = start(in_path, out_path, url, "--batch-size", "32")
        while not out_path.exists() or out_path.read_bytes().count(b"\n") < 300:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted. " in stderr
    assert "the same command goes on from there" in stderr
    assert out_path.read_bytes().endswith(b"\n")


def test_what_utf8_cannot_spell_is_escaped():
    fields = {"question": "\ud800"}
    assert json.loads(encoded(fields)) == fields


def test_patience_keeps_an_error_that_is_the_solutions_own():
    from vllm_prm.cli.patience import Patient
    from vllm_prm.errors import EngineError

    asked_before = []

    def score(solutions):
        asked_before.append(list(solutions))
        return [EngineError("broke") if question == "bad" else question for question, _ in solutions]

    solutions = [("a", ["s"]), ("bad", ["s"]), ("b", ["s"])]
    outputs = Patient(score, patience_s=0)(solutions)
    assert [str(result) for result in outputs] == ["a", "broke", "b"]
    assert sum(("bad", ["s"]) in batch for batch in asked_before) == 3
