"""Every `vllm serve` of a page is understood by vLLM's own parser, and every option that a page names is somebody's."""

from __future__ import annotations

import argparse
import re
import shutil

import pytest
from conftest import ROOT, TINY_PRM
from documentation import PAGES, invocations, on, text
from vllm.entrypoints.cli.serve import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from vllm_prm.cli import parser as ours
from vllm_prm.cli.serve import served
from vllm_prm.engine.compat import vllm_version

SERVES = [
    (page, words)
    for page in PAGES
    for block in on(page)
    for words in (
        *invocations(block, "vllm serve"),
        *(served(words[1:]) for words in invocations(block, "vllm-prm") if words[0] == "serve"),
    )
]
# Options of programs that are neither vLLM's nor in this repository.
OTHERS = {
    **dict.fromkeys(("--worker-urls", "--policy"), "vllm-router"),
    **dict.fromkeys(("--reward.remote_url",), "OpenRLHF"),
    **dict.fromkeys(("--rm-type", "--rm-url", "--reward-key"), "slime and vime"),
    **dict.fromkeys(("--rlhf_type", "--external_plugins", "--reward_funcs"), "ms-swift"),
    **dict.fromkeys(("--logits_all", "--type_k", "--type_v"), "llama-cpp-python"),
    **dict.fromkeys(("--no-deps",), "pip"),
    **dict.fromkeys(("--hypothesis-profile",), "pytest"),
}
OPTION = re.compile(r"(?<![\w-])(--[a-z][\w.-]*\w)(?![\w-]|\.\.\.)")


pytestmark = pytest.mark.skipif(
    tuple(map(int, vllm_version().split(".")[:2])) < (0, 32),
    reason="pages name options of a later vLLM: run it with vLLM 0.32 or later",
)


@pytest.fixture(scope="module")
def parser():
    return make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))


@pytest.mark.parametrize(("page", "words"), SERVES, ids=lambda value: str(value)[:60])
def test_served_as_a_page_says(parser, page, words, tmp_path, monkeypatch):
    """In a folder that has what pages name: the examples, and a recipe of the reader's."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name in ("my-prm.json", "my-recipe.json", "my-judge.json"):
        shutil.copy(f"{TINY_PRM}/prm.json", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    args = parser.parse_args([word.replace("RECIPE", "math-shepherd") for word in words])
    assert args.model_tag
    assert args.runner in ("pooling", "generate") or page == "docs/one-engine.md"


def test_servers_are_found():
    assert len(SERVES) > 8
    assert {page for page, _ in SERVES} >= {"README.md", "docs/serving.md", "docs/one-engine.md", "docs/scale.md"}


@pytest.fixture(scope="module")
def known(parser):
    """Every option of vLLM's server, of our commands, and of the programs in this repository."""
    options = {*parser._option_string_actions}  # also the --no-... that vLLM 0.33 knows without listing
    for action in ours()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                options |= {option for one in command._actions for option in one.option_strings}
    for folder in ("benchmarks", "examples", "sweep"):
        for path in (ROOT / folder).rglob("*.py"):
            options |= set(re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", path.read_text("utf-8")))
    return options


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_a_page_names(page, known):
    named = set(OPTION.findall(text(page))) - set(OTHERS)
    assert sorted(name for name in named if name not in known and name.partition(".")[0] not in known) == []


def test_nothing_is_excused_that_no_page_names():
    named = {option for page in PAGES for option in OPTION.findall(text(page))}
    assert sorted(set(OTHERS) - named) == []
