"""The pieces of `make gpu`: kept one by one, resumed, ended at their limits. Pieces here are small Python processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import tables
from gpu import pieces, report
from gpu.pieces import Piece

HERE = {"gpu": "H100", "vllm": "0.32.0", "tiny": False}
ANSWERS = "import json, sys; json.dump({}, open(sys.argv[1], 'w'))"


ANSWERS_A_FIGURE = ANSWERS.format('{"figure": 1}')


def piece(name, code=ANSWERS_A_FIGURE, limit_s=30.0, **environment):
    return Piece(name, [sys.executable, "-c", code], limit_s, environment)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "gpu.json"


@pytest.fixture
def run(path):
    """Runs what is missing of some pieces, as a new `make gpu` does; returns the names of those run and those left."""

    def run_missing(*all_pieces, limit_s=None, again=False):
        document = pieces.load(path, HERE, again)
        todo = pieces.missing(all_pieces, document)
        left = pieces.run_all(todo, path, document, {"commit": "abc"}, limit_s, lambda line: None)
        return [p.name for p in todo if p not in left], [p.name for p in left]

    return run_missing


def results(path):
    return json.loads(path.read_text())["pieces"]


def test_an_answer_is_kept(run, path):
    assert run(piece("a")) == (["a"], [])
    result = results(path)["a"]
    assert (result["outcome"], result["answer"], result["commit"]) == ("passed", {"figure": 1}, "abc")
    assert "why" not in result


def test_a_crash_is_kept_with_its_error_and_the_next_piece_runs(run, path):
    run(piece("bad", "raise KeyError('no such backend')"), piece("good"))
    assert results(path)["bad"]["outcome"] == "crashed"
    assert "KeyError: 'no such backend'\nexit status 1" in results(path)["bad"]["why"].replace("\n\n", "\n")
    assert results(path)["good"]["outcome"] == "passed"


def test_a_process_that_is_killed_is_a_crash(run, path):
    run(piece("killed", "import os; os.kill(os.getpid(), 9)"))
    assert "exit status -9" in results(path)["killed"]["why"]


def test_no_answer_is_a_crash(run, path):
    run(piece("silent", "print('done')"))
    assert results(path)["silent"]["outcome"] == "crashed"
    assert results(path)["silent"]["why"].endswith("done\n\nexit status 0, and no answer")


def test_a_piece_that_hangs_is_ended_with_all_that_it_started(run, path, tmp_path):
    """Its engine is a process of its own, deaf to interrupts here; left alive it would keep the GPU's memory."""
    child = tmp_path / "child"
    code = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(child)!r}, "w").write(str(engine.pid))
print("loading weights", flush=True)
time.sleep(600)
"""
    run(piece("hangs", code, limit_s=2.0), piece("next"))
    assert results(path)["hangs"]["outcome"] == "timed out"
    assert results(path)["hangs"]["why"] == "loading weights\n\nkilled after 2 s"
    assert results(path)["next"]["outcome"] == "passed"
    assert not is_alive(int(child.read_text()))


def is_alive(pid):
    """Not a zombie either: a container's init may never ask for its exit status."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_what_a_machine_cannot_do_and_what_is_wrong_are_told_apart(run, path):
    run(
        piece("two", ANSWERS.format('{"not_possible": "needs two GPUs"}')),
        piece("wrong", ANSWERS.format('{"mean": 0.3, "failed": "scores are 0.3 away"}')),
    )
    two, wrong = results(path)["two"], results(path)["wrong"]
    assert (two["outcome"], two["why"]) == ("not possible here", "needs two GPUs")
    assert (wrong["outcome"], wrong["why"], wrong["answer"]["mean"]) == ("failed", "scores are 0.3 away", 0.3)


def test_a_rerun_goes_on_with_what_is_missing(run):
    assert run(piece("a"), piece("crashes", "1/0")) == (["a", "crashes"], [])
    assert run(piece("a"), piece("crashes", "1/0"), piece("b")) == (["b"], [])
    assert run(piece("a"), piece("b"), again=True) == (["a", "b"], [])


def test_a_run_that_is_killed_keeps_what_was_finished(run, path):
    """The document is written after each piece, so it is whole when the second piece ends the run."""
    script = f"""
import sys
sys.path.append({str(ROOT / "benchmarks")!r})
from pathlib import Path
from gpu import pieces
a = pieces.Piece("a", [sys.executable, "-c", {ANSWERS.format({})!r}], 30)
kills = pieces.Piece("kills", [sys.executable, "-c", "import os; os.kill(os.getppid(), 9)"], 30)
path = Path({str(path)!r})
pieces.run_all([a, kills], path, pieces.load(path, {HERE!r}, False), {{}}, None, print)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert list(results(path)) == ["a"]
    assert run(piece("a"), piece("b")) == (["b"], [])


def test_a_limit_ends_before_a_piece_that_may_not_fit(run, path):
    sleeps = "import time; time.sleep(2); " + ANSWERS.format({})
    three = [piece(name, sleeps, limit_s=30.0) for name in "abc"]
    done, left = run(*three, limit_s=31)  # at least two seconds are over when the second would begin
    assert (done, left) == (["a"], ["b", "c"])
    assert list(results(path)) == ["a"]
    assert run(*three) == (["b", "c"], [])


def test_a_limit_that_a_piece_can_never_keep_is_refused(run):
    with pytest.raises(ValueError, match="a piece may take 30 s, so a limit of 20 s would never reach it"):
        run(piece("a"), limit_s=20)


def test_results_of_another_machine_are_not_mixed_in(run, path, monkeypatch):
    run(piece("a"))
    monkeypatch.setitem(HERE, "gpu", "A100")
    with pytest.raises(pieces.OtherMachine, match="has results of gpu H100, and this is gpu A100: give --again"):
        run(piece("b"))
    assert run(piece("b"), again=True) == (["b"], [])
    assert list(results(path)) == ["b"]


def test_a_piece_has_its_environment(run, path):
    run(piece("a", "import os, json, sys; json.dump({'v': os.environ['V']}, open(sys.argv[1], 'w'))", V="1"))
    assert results(path)["a"]["answer"] == {"v": "1"}


def test_an_interrupt_ends_the_piece_too(tmp_path):
    child = tmp_path / "child"
    sleeps = f"import os, time; open({str(child)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    script = f"""
import sys
sys.path.append({str(ROOT / "benchmarks")!r})
from gpu import pieces
pieces.run(pieces.Piece("a", [sys.executable, "-c", {sleeps!r}], 600))
"""
    hears = "import signal; signal.signal(2, signal.default_int_handler)"  # a background job may not
    run = subprocess.Popen([sys.executable, "-c", hears + script])
    deadline = time.monotonic() + 60
    while not (child.exists() and child.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, 2)
    assert run.wait(30) != 0
    assert not is_alive(int(child.read_text()))


def test_the_page_is_rewritten_between_its_marks_only(tmp_path):
    page = tmp_path / "gpu.md"
    page.write_text(f"# GPU\n{report.BEGIN}\nold\n{tables.END}\nlast\n")
    tables.into_file(page, "| new |", report.BEGIN)
    assert page.read_text() == f"# GPU\n{report.BEGIN}\n\n| new |\n\n{tables.END}\nlast\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="put both where the results are to stand"):
        tables.into_file(page, "| new |", report.BEGIN)


def test_the_page_has_its_marks():
    text = (ROOT / "docs" / "gpu.md").read_text("utf-8")
    assert text.count(report.BEGIN) == text.count(tables.END) == 1
