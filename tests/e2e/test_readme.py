"""The README's commands run, and print what the README says they print."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from conftest import ROOT
from documentation import block_of, invocations, is_console, on, outputs, ran, run_console
from fenced import difference

from vllm_prm import find_recipe

BLOCKS = on("README.md")
SHOWN = outputs("README.md")

DEMO = [block for block in BLOCKS if "server ready after" in block.text]
CONSOLE = [block for block in BLOCKS if is_console(block) and block not in DEMO]
PYTHON = [block for block in BLOCKS if block.language == "python"]

# How a block begins: why its commands are not run here.
NOT_RUN = {
    "make demo": "make test runs these tests, and what make demo runs has a test of its own; the plans are compared",
    "pip install .": "for a machine with a GPU, and 14 GB of weights; the recipe is looked up by the model's name",
}

# At the end of the script: the thread that receives answers is gone. Python could not exit safely beside it.
NOTHING_LEFT = """
    import threading
    assert "EngineCoreOutputQueueThread" not in [thread.name for thread in threading.enumerate()]
"""


def test_every_block_is_run_or_named_here():
    run = {*DEMO, *CONSOLE, *PYTHON, *SHOWN.values()}
    first_lines = [block.first_line for block in BLOCKS if block not in run]
    assert len(first_lines) == len(NOT_RUN)
    assert [line for line in first_lines if not line.startswith(tuple(NOT_RUN))] == []
    assert (len(DEMO), len(PYTHON), len(SHOWN)) == (1, 1, 1)
    text = "".join(block.text for block in CONSOLE)
    for part in ("/v1/embeddings", "vllm-prm score"):
        assert f"{part} " in text


@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: block.first_line[2:40])
def test_commands(block, tiny_prm_url, tmp_path):
    run_console(block, tiny_prm_url, tmp_path)


def test_python_on_an_engine_of_its_own(tmp_path):
    (code,) = PYTHON
    script = tmp_path / "script.py"
    script.write_text(code.text + NOTHING_LEFT, "utf-8")
    assert (wrong := difference(SHOWN[code].text, ran(f"python {script}", ROOT))) is None, wrong


def test_python_on_a_server(tiny_prm_url, tmp_path):
    """With the line changed as its comment says."""
    (code,) = PYTHON
    text, changed = re.subn(r"with PRM\(.*\) as prm:  # or (PRMClient\(.*\))\n", r"with \1 as prm:\n", code.text)
    assert changed == 1
    script = tmp_path / "script.py"
    script.write_text(text.replace("http://localhost:8000", tiny_prm_url), "utf-8")
    assert (wrong := difference(SHOWN[code].text, ran(f"python {script}", ROOT))) is None, wrong


def test_the_demo():
    printed = ran("python examples/demo.py", ROOT)
    printed = re.sub(r"^waiting for the server .*\n", "", printed, flags=re.MULTILINE)  # a terminal wipes these lines
    assert (wrong := difference(DEMO[0].text, printed)) is None, wrong


# ---- what can be looked at without running it


@pytest.mark.parametrize(
    ("target", "last_command"), [("demo", "python examples/demo.py"), ("test", "python -m pytest")]
)
def test_what_make_would_run(target, last_command):
    assert f"make {target} " in block_of("README.md", "make demo").text
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    planned = subprocess.check_output(["make", "--dry-run", target], cwd=ROOT, text=True, env=environment)
    assert planned.splitlines()[-1].endswith(last_command)


def test_the_model_for_a_gpu_is_found_by_its_name():
    ((model, *words),) = invocations(block_of("README.md", "pip install"), "vllm serve")
    assert words == ["--task", "embed"]
    assert find_recipe(model).name == "math-shepherd"
