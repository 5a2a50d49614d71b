"""Every example runs on the tiny PRM and says what it should."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT, TINY_PRM
from server import serving

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "server.log"
    before = os.environ.get("VLLM_PLUGINS")
    os.environ["VLLM_PLUGINS"] = "prm"
    try:
        with serving(log, TINY_PRM, "--task", "embed", "--dtype", "float32", "--enforce-eager") as address:
            yield address
    finally:
        os.environ.pop("VLLM_PLUGINS") if before is None else os.environ.update(VLLM_PLUGINS=before)


def ran(*words):
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_best_of_n(url):
    out = ran(sys.executable, EXAMPLES / "best_of_n.py", url)
    assert out.splitlines()[-1] == "best: Step 3: 8 + 4 = 12"
    assert "candidate 0: 0.0000   steps 0.98  0.00  0.00   first error 1" in out


def test_beam_search_finds_the_answer(url):
    assert ran(sys.executable, EXAMPLES / "beam_search.py", url).splitlines()[-1] == "answer: 12"


def test_a_reward_function_for_trl(url):
    out = ran(sys.executable, EXAMPLES / "trl_reward.py", url).splitlines()
    assert out[0] == "reward function tiny-prm_min"
    assert [float(out[1].split()[0]) > 0.9, float(out[2].split()[0]) < 0.1, out[3].split()[0]] == [True, True, "None"]


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
def test_trl_takes_it(url):
    import inspect

    from trl import GRPOTrainer

    assert "reward_funcs" in inspect.signature(GRPOTrainer.__init__).parameters


def test_evaluation_of_a_file(url, tmp_path):
    sys.path.insert(0, str(EXAMPLES))
    from evaluate_file import made_up

    page = tmp_path / "page.html"
    out = ran(sys.executable, EXAMPLES / "evaluate_file.py", made_up(tmp_path / "mine.jsonl"), page, url)
    f1 = float(out.splitlines()[3].split()[-1])
    assert f1 > 90, out
    assert "Where the PRM errs" in page.read_text("utf-8")


def test_curl(url):
    out = ran("bash", EXAMPLES / "curl.sh", url)
    assert '"first_error":1' in out
    assert '"best":1' in out
    assert '"embedding":[' in out


def test_an_engine_in_the_same_process():
    out = ran(sys.executable, EXAMPLES / "best_of_n.py")
    assert out.splitlines()[-1] == "best: Step 3: 8 + 4 = 12"


def test_examples_are_short():
    for name in ("best_of_n", "beam_search", "trl_reward", "evaluate_file"):
        assert len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) < 80
