"""The README's commands run, and print what the README says they print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from readme import ELIDED, Block, blocks, commands, difference

from vllm_prm import find_recipe

BLOCKS = blocks((ROOT / "README.md").read_text("utf-8"))
FOLLOWING = dict(zip(BLOCKS, [*BLOCKS[1:], Block("", "")], strict=True))

DEMO = [block for block in BLOCKS if "server ready after" in block.text]
CONSOLE = [block for block in BLOCKS if block.text.startswith("$ ") and block not in DEMO]
PYTHON = [block for block in BLOCKS if block.language == "python"]
PYTHON_OUTPUTS = [FOLLOWING[block] for block in PYTHON]

# How a block begins: why its commands are not run here.
NOT_RUN = {
    "make demo": "make test runs these tests, and what make demo runs has a test of its own; the plans are compared",
    "pip install .": "for a machine with a GPU, and 14 GB of weights; the recipe is looked up by the model's name",
    "vllm_prm/": "a list of folders and no command; they have to exist",
}

# At the end of the script: the thread that receives answers is gone. Python could not exit safely beside it.
NOTHING_LEFT = """
    import threading
    assert "EngineCoreOutputQueueThread" not in [thread.name for thread in threading.enumerate()]
"""


def ran(command: str, folder: Path) -> str:
    """What it prints on stdout, as a shell runs it in `folder` in the environment of these tests.

    Two things are set otherwise than in a user's shell: vLLM's log, which goes to stdout and is not in the README, is
    silent; and the tests' own VLLM_ENABLE_V1_MULTIPROCESSING is taken away. Paths are told from the repository's root.
    """
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.replace(f"{ROOT}/", "")


def test_every_block_is_run_or_named_here():
    run = {*DEMO, *CONSOLE, *PYTHON, *PYTHON_OUTPUTS}
    first_lines = [block.first_line for block in BLOCKS if block not in run]
    assert len(first_lines) == len(NOT_RUN)
    assert [line for line in first_lines if not line.startswith(tuple(NOT_RUN))] == []
    assert (len(DEMO), len(PYTHON)) == (1, 1)
    text = "".join(block.text for block in CONSOLE)
    for part in ("/v1/embeddings", "/v1/prm/score", "vllm-prm score"):
        assert f"{part} " in text


@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: block.first_line[2:40])
def test_commands(block, tiny_prm_url, tmp_path):
    for number, (command, output) in enumerate(commands(block.text)):
        words = shlex.split(command, comments=True)
        if words[:3] == ["VLLM_PLUGINS=prm", "vllm", "serve"]:  # the server that is asked here, by its absolute path
            assert words[3:] == ["examples/tiny-prm", "--task", "embed", "--dtype", "float32"]  # as conftest's
            continue
        if number == 0 and words[0] == "cat":  # the reader's own file, shown whole
            assert ELIDED not in output
            (tmp_path / words[1]).write_text(output, "utf-8")
        printed = ran(command.replace("localhost:8000", tiny_prm_url.removeprefix("http://")), tmp_path)
        assert (wrong := difference(output, printed)) is None, f"{command}{wrong}"


def test_python_on_an_engine_of_its_own(tmp_path):
    (block,) = PYTHON
    script = tmp_path / "script.py"
    script.write_text(block.text + NOTHING_LEFT, "utf-8")
    assert (wrong := difference(FOLLOWING[block].text, ran(f"python {script}", ROOT))) is None, wrong


def test_python_on_a_server(tiny_prm_url, tmp_path):
    """With the line changed as its comment says."""
    (block,) = PYTHON
    text, changed = re.subn(r"with PRM\(.*\) as prm:  # or (PRMClient\(.*\))\n", r"with \1 as prm:\n", block.text)
    assert changed == 1
    script = tmp_path / "script.py"
    script.write_text(text.replace("http://localhost:8000", tiny_prm_url), "utf-8")
    assert (wrong := difference(FOLLOWING[block].text, ran(f"python {script}", ROOT))) is None, wrong


def test_the_demo():
    printed = ran("python examples/demo.py", ROOT)
    printed = re.sub(r"^waiting for the server .*\n", "", printed, flags=re.MULTILINE)  # a terminal wipes these lines
    assert (wrong := difference(DEMO[0].text, printed)) is None, wrong


# ---- what can be looked at without running it


def block_that_begins(start: str) -> Block:
    (block,) = [block for block in BLOCKS if block.text.startswith(start)]
    return block


@pytest.mark.parametrize(
    ("target", "last_command"), [("demo", "python examples/demo.py"), ("test", "python -m pytest")]
)
def test_what_make_would_run(target, last_command):
    assert f"make {target} " in block_that_begins("make demo").text
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    planned = subprocess.check_output(["make", "--dry-run", target], cwd=ROOT, text=True, env=environment)
    assert planned.splitlines()[-1].endswith(last_command)


def test_the_model_for_a_gpu_is_found_by_its_name():
    (serve,) = [line for line in block_that_begins("pip install").text.splitlines() if line.startswith("vllm serve")]
    words = shlex.split(serve)
    assert words[3:] == ["--task", "embed"]
    assert find_recipe(words[2]).name == "math-shepherd"


def test_the_folders_exist():
    names = re.findall(r"^(\S+)", block_that_begins("vllm_prm/").text, re.MULTILINE)
    assert len(names) >= 7
    assert [name for name in names if not (ROOT / name).exists()] == []
