"""Every example runs on the tiny PRM and says what it should."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ROOT
from server import serving

EXAMPLES = ROOT / "examples"
TINY_GENERATOR = str(EXAMPLES / "tiny-generator")


def ran(*words, cwd=ROOT):
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_best_of_n(tiny_prm_url):
    out = ran(sys.executable, EXAMPLES / "best_of_n.py", tiny_prm_url)
    assert out.splitlines()[-1] == "best: Step 3: 8 + 4 = 12"
    assert "candidate 0: 0.0000   steps 0.98  0.00  0.00   first error 1" in out


def test_beam_search_over_a_generator_on_a_second_server(tiny_prm_url, tmp_path):
    with serving(tmp_path / "generator.log", TINY_GENERATOR, "--dtype", "float32", "--enforce-eager") as generator:
        out = ran(sys.executable, EXAMPLES / "beam_search.py", generator, tiny_prm_url)
    alone, found = map(int, re.fullmatch(r"right: (\d+) of 20 .*, (\d+) by the search", out.splitlines()[-1]).groups())
    assert found >= 15 > alone, out


def test_trl_trains_on_the_rewards(tiny_prm_url, tmp_path):
    out = ran(sys.executable, EXAMPLES / "trl_reward.py", tiny_prm_url, 3, cwd=tmp_path)
    rewards = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("step")]
    assert len(rewards) == 3
    assert all(0 < reward < 1 for reward in rewards), out


def test_evaluation_of_a_file(tiny_prm_url, tmp_path):
    sys.path.insert(0, str(EXAMPLES))
    from evaluate_file import made_up

    page = tmp_path / "page.html"
    out = ran(sys.executable, EXAMPLES / "evaluate_file.py", made_up(tmp_path / "mine.jsonl"), page, tiny_prm_url)
    f1 = float(out.splitlines()[3].split()[-1])
    assert f1 > 90, out
    assert "Where the PRM errs" in page.read_text("utf-8")


def test_curl(tiny_prm_url):
    out = ran("bash", EXAMPLES / "curl.sh", tiny_prm_url)
    assert '"first_error":1' in out
    assert '"best":1' in out
    assert '"embedding":[' in out


def test_an_engine_in_the_same_process():
    out = ran(sys.executable, EXAMPLES / "best_of_n.py")
    assert out.splitlines()[-1] == "best: Step 3: 8 + 4 = 12"


def test_examples_are_short():
    for name in ("best_of_n", "beam_search", "trl_reward", "evaluate_file"):
        assert len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) < 90
