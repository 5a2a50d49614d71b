"""The pages that users read, their blocks by page, and the running of one against a server that is there."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

from fenced import ELIDED, Block, blocks, commands, difference

ROOT = Path(__file__).parents[1]
# Not the changelog, which tells of the past, nor notices of data.
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("README.md", "CONTRIBUTING.md", "MAINTAINING.md", "docs/*.md", "benchmarks/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
)
SERVER = "http://localhost:8000"  # what every page calls the reader's server
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*$")
OPERATORS = {"|", "||", "&", "&&", ";", ">", "<", ">>"}


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


@cache
def on(page: str) -> list[Block]:
    """The page's blocks in order."""
    return blocks(text(page))


def block_of(page: str, start: str) -> Block:
    """The one block of the page that begins so."""
    (found,) = [block for block in on(page) if block.text.startswith(start)]
    return found


def is_console(block: Block) -> bool:
    return block.text.startswith("$ ")


def outputs(page: str) -> dict[Block, Block]:
    """Python blocks with an output below them, and that output."""
    pairs = zip(on(page), on(page)[1:], strict=False)
    return {code: below for code, below in pairs if code.language == "python" and below.glued and not below.language}


def invocations(block: Block, program: str) -> list[list[str]]:
    """The words behind `program` in every command of a block that calls it, without comments and assignments."""
    if is_console(block):
        lines = [command for command, _ in commands(block.text)]
    elif block.language in ("", "bash"):
        lines = block.text.replace("\\\n", " ").splitlines()
    else:
        return []
    found = []
    for line in lines:
        if program not in line:
            continue
        for words in _commands_of(line):
            while words and ASSIGNMENT.match(words[0]):
                words = words[1:]
            called = shlex.split(program)
            if words[: len(called)] == called:
                found.append(words[len(called) :])
    return found


def _commands_of(line: str) -> list[list[str]]:
    """A shell's line, cut at its operators."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an output with one quotation mark; a command of a console block is whole
        return []
    found: list[list[str]] = [[]]
    for word in words:
        if word in OPERATORS:
            found.append([])
        else:
            found[-1].append(word)
    return found


def ran(command: str, folder: Path) -> str:
    """What it prints on stdout, as a shell runs it in `folder` in the environment of these tests.

    Two things are set otherwise than in a user's shell: vLLM's log, which goes to stdout and is on no page, is silent;
    and the tests' own VLLM_ENABLE_V1_MULTIPROCESSING is taken away. Paths are told from the repository's root.
    """
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.replace(f"{ROOT}/", "")


def run_console(block: Block, url: str, folder: Path) -> None:
    """Runs the block's commands in order and compares what they print. A file that it shows first is the reader's."""
    written = False
    for command, output in commands(block.text):
        words = shlex.split(command, comments=True)
        if words[:3] == ["VLLM_PLUGINS=prm", "vllm", "serve"]:  # the server that is asked here, by its absolute path
            assert words[3:] == ["examples/tiny-prm", "--task", "embed", "--dtype", "float32"]  # as conftest's
            continue
        if words[0] == "cat" and len(words) == 2 and not written:  # the reader's own file, shown whole
            assert ELIDED not in output
            (folder / words[1]).write_text(output, "utf-8")
            written = True
        printed = ran(command.replace("localhost:8000", url.removeprefix("http://")), folder)
        assert (wrong := difference(output, printed)) is None, f"{command}{wrong}"


def run_python(page: str, url: str, **given: Any) -> dict[str, Any]:
    """Runs the page's Python blocks in order, each with what those before it made; compares what the page shows.

    given: names that the page takes as the reader's. Returns all names.
    """
    names, shown = dict(given), outputs(page)
    for code in on(page):
        if code.language == "python":
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(compile(code.text.replace(SERVER, url), page, "exec"), names)
            wrong = difference(shown[code].text, printed.getvalue()) if code in shown else None
            assert wrong is None, f"{code.text}{wrong}"
    return names


def run_block(page: str, start: str, instead: dict[str, str], **given: Any) -> dict[str, Any]:
    """Runs one Python block with the reader's names for things replaced by those that are there. Returns all names."""
    code, names = block_of(page, start).text, dict(given)
    for name, other in instead.items():
        assert name in code
        code = code.replace(name, other)
    exec(compile(code, page, "exec"), names)
    return names
