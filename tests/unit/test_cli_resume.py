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


def written(path, given):
    path.write_text("".join(("not json" if v is None else json.dumps(v)) + "\n" for v in given), encoding="utf-8")


def check_all(given, out):
    found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert len(found) == len(given)
    for value, line in zip(given, found, strict=True):
        if value is None or not value["steps"]:
            assert "error" in line
        else:
            assert line["id"] == value["id"]
            assert line["step_scores"] == list(expected(value["steps"]).step_scores)


def start(given, out, url, *options):
    command = [sys.executable, "-m", "vllm_prm.cli", "score", str(given), "-o", str(out), "--server", url, *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_interrupts)


def test_ten_thousand_lines_killed_twice(tmp_path):
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = values(LINES)
    written(given, lines)
    with speaking() as (url, seen):
        killed_at = []
        for share in (0.2, 0.6):
            process = start(given, out, url)
            while not out.exists() or out.read_bytes().count(b"\n") < share * LINES:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed_at.append(out.read_bytes().count(b"\n"))
            assert killed_at[-1] < LINES
            with out.open("ab") as file:
                file.write(b'{"id": 1, "half a li')  # as if the kill had come in the middle of a write
        process = start(given, out, url)
        _, told = process.communicate()
    assert process.returncode == 1  # because of the bad lines
    assert f"has {killed_at[1]:,} lines already; going on after them" in told
    check_all(lines, out)
    bad = sum(value is None or not value["steps"] for value in lines)
    assert f"{bad:,} of {LINES:,} lines have no answer" in told
    repeated = sum(question.startswith("question") for question in seen) - (LINES - bad)
    assert repeated <= 2 * 128, "more than one batch of work was lost at each kill"


def test_a_server_that_goes_away_and_comes_back(tmp_path):
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = values(1000)
    written(given, lines)
    with speaking(most=500) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        process = start(given, out, url, "--patience", "60", "--batch-size", "32")
        while not out.exists() or out.read_bytes().count(b"\n") < 200:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
    time.sleep(2)
    assert process.poll() is None
    with speaking(port):
        process.communicate(timeout=120)
    assert process.returncode == 1  # the bad lines
    check_all(lines, out)
    assert not any("no answer from" in line for line in out.read_text().splitlines())


def test_a_server_that_stays_away_ends_the_run_with_what_to_do(tmp_path):
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = values(1000)
    written(given, lines)
    with speaking(most=500) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        process = start(given, out, url, "--patience", "1", "--batch-size", "32")
        while not out.exists() or out.read_bytes().count(b"\n") < 200:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the server has scored nothing for" in told
    assert f"{out} is whole up to its last line; the same command goes on from there" in told
    assert out.read_bytes().endswith(b"\n")
    with speaking(port):
        assert main(["score", str(given), "-o", str(out), "--server", url, "-q"]) == 1
    check_all(lines, out)


@pytest.fixture
def finished(tmp_path):
    """A finished run of 5 lines: its input, its output, and main's words to run it again."""
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    written(given, [{"id": n, **GOOD} for n in range(5)])
    with speaking() as (url, seen):
        words = ["score", str(given), "-o", str(out), "--server", url, "-q"]
        assert main(words) == 0
        yield given, out, words, seen


def test_a_finished_run_asks_nothing_more(finished):
    given, out, words, seen = finished
    before, asked = out.read_bytes(), seen.count("q")
    assert main(words) == 0
    assert out.read_bytes() == before
    assert seen.count("q") == asked
    with given.open("a") as file:
        file.write(json.dumps({"id": 5, **GOOD}) + "\n")
    assert main(words) == 0
    assert seen.count("q") == asked + 1
    assert out.read_bytes().startswith(before)
    assert main([*words, "--overwrite"]) == 0
    assert seen.count("q") == asked + 1 + 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [{**lines[0], "id": 9}, *lines[1:]], "belongs to another input: its 'id' differs from line 1's"),
        (lambda lines: lines[:3], "has more lines than the input"),
        (lambda lines: [*lines[:4], {"question": "other", "steps": ["a"]}], "line 5 of .* its 'question' differs"),
    ],
)
def test_an_output_of_another_input_is_left_alone(finished, capsys, change, message):
    given, out, words, _ = finished
    before = out.read_bytes()
    written(given, change([{"id": n, **GOOD} for n in range(5)]))
    assert main(words) == 1
    told = capsys.readouterr().err
    assert re.search(message, told), told
    assert "start over with --overwrite" in told
    assert out.read_bytes() == before


def test_other_options_and_foreign_files_are_not_mixed_in(finished, capsys):
    given, out, words, _ = finished
    assert main([*words, "--aggregate", "last"]) == 1
    assert '"aggregate": "min"' in capsys.readouterr().err
    out.write_text('{"precious": "data"}\n')
    assert main(words) == 1
    assert "is not something that this command writes" in capsys.readouterr().err
    assert out.read_text() == '{"precious": "data"}\n'
    assert main([*words[:3], str(given), *words[4:]]) == 2
    assert "is both input and output" in capsys.readouterr().err


def test_two_runs_do_not_write_one_file(finished, capsys):
    import fcntl

    given, out, words, _ = finished
    with given.open("a") as file:
        file.write(json.dumps(GOOD) + "\n")
    with out.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(words) == 1
    assert "another process is writing" in capsys.readouterr().err


def test_every_cut_of_the_output_is_mended(tmp_path):
    """Wherever the file is cut, it becomes the same again."""
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    written(given, [{"id": n, "question": "ü", "steps": ["é"]} for n in range(3)])
    with speaking() as (url, _):
        words = ["score", str(given), "-o", str(out), "--server", url, "-q"]
        assert main(words) == 0
        whole = out.read_bytes()
        for cut in range(0, len(whole), 13):
            out.write_bytes(whole[:cut])
            assert main(words) == 0
            assert out.read_bytes() == whole


def test_interrupted_by_hand(tmp_path):
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    written(given, values(1000))
    with speaking(most=500) as (url, _):
        process = start(given, out, url, "--batch-size", "32")
        while not out.exists() or out.read_bytes().count(b"\n") < 300:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted. " in told
    assert "the same command goes on from there" in told
    assert out.read_bytes().endswith(b"\n")


def test_what_utf8_cannot_spell_is_escaped():
    fields = {"question": "\ud800"}
    assert json.loads(encoded(fields)) == fields


def test_patience_keeps_an_error_that_is_the_solutions_own():
    from vllm_prm.cli.patience import Patient
    from vllm_prm.errors import EngineError

    asked = []

    def score(asks):
        asked.append(list(asks))
        return [EngineError("broke") if question == "bad" else question for question, _ in asks]

    asks = [("a", ["s"]), ("bad", ["s"]), ("b", ["s"])]
    found = Patient(score, patience_s=0)(asks)
    assert [str(one) for one in found] == ["a", "broke", "b"]
    assert sum(("bad", ["s"]) in batch for batch in asked) == 3
