"""Ray Data on a cluster of this machine: `StepScorer`, and examples/ray_score.py, which goes on where it was killed.

The numbers are those of `vllm-prm score`. Runs where `make stacks` runs it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT, TINY_PRM
from fenced import blocks

sys.path.insert(0, str(ROOT / "examples"))
from arithmetic import solution  # noqa: E402 - examples are no package

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed: make stacks")

ROWS, PART = 2000, 100
FINISHED = 2  # parts before the run is killed
PATIENCE_S = 500  # an engine boots in 20 s on two idle cores
ENGINE = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "gpu_memory_utilization": 0.2}


def rows(count: int, seed: int) -> list[dict]:
    """Every third with its solution in one text; one in a hundred cannot be scored."""
    rng, made = random.Random(seed), []
    for number in range(count):
        one = solution(rng, mistakes=number % 2)
        steps = [] if number % 100 == 7 else [step.removeprefix(f"Step {k}: ") for k, step in enumerate(one.steps, 1)]
        fields = {"solution": "\n".join(one.steps)} if number % 3 == 0 else {"steps": steps}
        made.append({"id": number, "question": one.question, **fields})
    return made


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A JSONL file with a blank line and one that is no JSON, and a Parquet file of two row groups."""
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("inputs")
    lines = [json.dumps(row) for row in rows(ROWS, 3)]
    (folder / "lines.jsonl").write_text("\n".join([*lines[:30], "", "no JSON", *lines[30:], ""]), encoding="utf-8")
    columns = {name: [row.get(name) for row in rows(3 * PART, 4)] for name in ("id", "question", "solution", "steps")}
    table = pyarrow.table(columns)
    parquet.write_table(table, folder / "table.parquet", row_group_size=2 * PART - 10)
    return folder / "lines.jsonl", folder / "table.parquet"


@pytest.fixture(scope="module")
def expected(inputs, tiny_prm_url, tmp_path_factory):
    """What `vllm-prm score` makes of both files' rows."""
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("expected")
    listed = [{k: v for k, v in row.items() if v is not None} for row in parquet.read_table(inputs[1]).to_pylist()]
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed), encoding="utf-8")
    answers = []
    for path in (inputs[0], folder / "table.jsonl"):
        command = [sys.executable, "-m", "vllm_prm.cli", "score", str(path), "--server", tiny_prm_url, "-q"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr  # some lines cannot be scored
        answers.append([json.loads(line) for line in done.stdout.splitlines()])
    return answers


def command(inputs, folder) -> list[str]:
    words = [sys.executable, ROOT / "examples" / "ray_score.py", *inputs, "-o", folder, "--model", TINY_PRM]
    return [*map(str, words), "--rows", str(PART), "--gpus", "0", "--vllm", json.dumps(ENGINE)]


def environment() -> dict[str, str]:
    """VLLM_PLUGINS: another stack's plugin for vLLM needs what is not installed. Ray gives its workers the lowest
    priority, which on a busy machine is none."""
    ours = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return ours | {"PYTHONPATH": path, "VLLM_PLUGINS": "prm", "RAY_worker_niceness": "0"}


def parts(folder) -> dict[str, int]:
    """The finished ones, and when each was written."""
    found = [path for path in folder.glob("*-*-*") if path.suffix in (".jsonl", ".parquet")]
    return {path.name: path.stat().st_mtime_ns for path in found}


def killed(inputs, folder, log) -> dict[str, int]:
    """Run until FINISHED parts are there, end the driver by SIGKILL, and wait for the end of what scores."""
    with log.open("w") as out:
        driver = subprocess.Popen(command(inputs, folder), stdout=out, stderr=out, env=environment())
        try:
            deadline = time.monotonic() + PATIENCE_S
            while len(parts(folder)) < FINISHED:
                assert driver.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.05)
            started = psutil.Process(driver.pid).children(recursive=True)
            scoring = [process for process in started if process.name().startswith(("ray::MapWorker", "VLLM::"))]
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
    assert scoring, started  # an actor, its engine and that one's worker
    _, alive = psutil.wait_procs(scoring, timeout=60)
    assert not alive, alive
    return parts(folder)


def test_a_killed_run_goes_on_and_scores_nothing_twice(inputs, expected, tmp_path):
    folder = tmp_path / "scored"
    finished = killed(inputs, folder, tmp_path / "log")
    done = subprocess.run(command(inputs, folder), capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    count = len(parts(folder))
    assert FINISHED <= len(finished) < count == 21 + 4  # of 2,002 lines; of row groups of 190 and 110 rows
    assert f"{len(finished)} of {count} parts are there" in done.stdout
    assert {name: parts(folder)[name] for name in finished} == finished
    assert f" rows in {count - len(finished)} parts" in done.stdout

    from pyarrow import parquet

    names = sorted(parts(folder))
    lines = [json.loads(line) for n in names if n.endswith("jsonl") for line in (folder / n).read_text().splitlines()]
    table = [row for n in names if n.endswith("parquet") for row in parquet.read_table(folder / n).to_pylist()]
    for given, answers in zip((lines, table), expected, strict=True):
        assert len(given) == len(answers)
        for row, answer in zip(given, answers, strict=True):
            same(row, answer)
    again = subprocess.run(command(inputs, folder), capture_output=True, text=True, check=False, env=environment())
    assert again.stdout == f"{count} of {count} parts are there\n"
    other = subprocess.run([*command(inputs, folder), "--rows", "7"], capture_output=True, text=True, check=False)
    assert "is of another run" in other.stderr


def test_the_pipeline_of_the_documentation(inputs, expected, tmp_path):
    from pyarrow import parquet

    page = blocks((ROOT / "docs" / "scale.md").read_text("utf-8"))
    (text,) = [block.text for block in page if block.language == "python" and "StepScorer" in block.text]
    given = {
        '"solutions.parquet"': repr(str(inputs[1])),
        'PRM, "MODEL"': f"PRM, {TINY_PRM!r}, **{ENGINE}",
        '"scored"': repr(str(tmp_path / "scored")),
        "size=8": "size=1",
        "num_gpus=1": "num_gpus=0",
    }
    for shown, ours in given.items():
        assert shown in text
        text = text.replace(shown, ours)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    rows = sorted(parquet.read_table(tmp_path / "scored").to_pylist(), key=lambda row: row["id"])  # Ray's order is none
    assert len(rows) == len(expected[1])
    for row, answer in zip(rows, expected[1], strict=True):
        same(row, answer)


def same(row: dict, answer: dict) -> None:
    if "error" in answer:
        assert answer["error"].endswith(row["error"])  # after the line's number
        assert row.get("step_scores") is None
        return
    assert row.get("error") is None
    assert row["step_scores"] == pytest.approx(answer["step_scores"], abs=1e-6)
    assert row["score"] == pytest.approx(answer["score"], abs=1e-6)
    assert row["first_error"] == answer["first_error"]
    assert {name: row[name] for name in ("id", "question", "steps")} == {
        name: answer[name] for name in ("id", "question", "steps")
    }
