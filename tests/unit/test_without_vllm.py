"""Client, command line, evaluation and report where neither vLLM nor torch is installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT
from wire import speaking

ABSENT = ("fastapi", "starlette", "torch", "transformers", "vllm")  # vLLM brings them all, and pip brings no vLLM
BLOCKED = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); "  # importing one of them raises ImportError
COMMAND = BLOCKED + "from vllm_prm.cli import main; sys.exit(main(sys.argv[1:]))"


def python(code: str, *arguments: str) -> str:
    """What it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_but_the_engines_can_be_imported():
    code = BLOCKED + (
        "import importlib, pkgutil, vllm_prm\n"
        "names = [m.name for m in pkgutil.walk_packages(vllm_prm.__path__, 'vllm_prm.')]\n"
        "names = [n for n in names if not n.startswith('vllm_prm.engine.') and not n.endswith('__main__')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print(len(names))"
    )
    assert int(python(code)) > 50


@pytest.fixture(scope="module")
def url():
    with speaking() as (address, _):
        yield address


def test_a_client_asks_a_server(url):
    code = BLOCKED + (
        "from vllm_prm import PRMClient\n"
        "with PRMClient(sys.argv[1]) as prm: print(len(prm.score('q', ['a', 'b']).step_scores))"
    )
    assert python(code, url).strip() == "2"


def test_the_command_line_scores_evaluates_and_reports(url, tmp_path):
    assert "math-shepherd" in python(COMMAND, "recipes")
    solutions, scored, page = (str(tmp_path / name) for name in ("solutions.jsonl", "scored.jsonl", "page.html"))
    with open(solutions, "w", encoding="utf-8") as lines:
        lines.write(json.dumps({"id": 1, "question": "q", "steps": ["a", "b"]}) + "\n")
    python(COMMAND, "score", solutions, "-o", scored, "--server", url)
    python(COMMAND, "report", scored, "-o", page)
    benchmark = str(ROOT / "tests" / "data" / "prmbench-36.jsonl")
    assert "PRMScore" in python(COMMAND, "evaluate", benchmark, "--server", url)
