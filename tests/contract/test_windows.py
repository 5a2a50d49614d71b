"""A PRM whose layers all have a sliding window keeps all tokens, whichever way it is started and unless told otherwise.

Only the configuration is made here, as vLLM makes it for every engine.
"""

from __future__ import annotations

import pytest
from conftest import step_config
from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
from vllm.entrypoints.cli.serve import make_arg_parser  # in every version, whatever file defines it
from vllm.utils.argparse_utils import FlexibleArgumentParser

from vllm_prm import load_recipe
from vllm_prm.engine.start import windows
from vllm_prm.engine.start.options import engine_options

STEP = '{"pooling_type":"STEP","step_tag_id":12902,"returned_token_ids":[648,387]}'
POOLING = {"runner": "pooling", "convert": "embed"}
PRM = {**POOLING, "hf_overrides": {"prm": "math-shepherd"}}


@pytest.fixture
def said(monkeypatch):
    """What is logged; vLLM takes handlers off its logger when it is first configured."""
    lines: list[str] = []
    monkeypatch.setattr(windows.logger, "info", lambda message, *values: lines.append(message % values))
    return lines


def keeps_all_tokens(engine_args):
    return engine_args.create_engine_config().scheduler_config.disable_hybrid_kv_cache_manager


def served(*line):
    """vLLM's options, as `vllm serve` makes them of a command line."""
    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    args = parser.parse_args(["--max-model-len", "8192", *line])
    args.model = args.model_tag  # as `vllm serve` does
    return AsyncEngineArgs.from_cli_args(args)


def offline(model, **options):
    return EngineArgs(model=model, max_model_len=8192, **options)


@pytest.mark.parametrize("line", [["--prm", "math-shepherd"], ["--task", "embed", "--pooler-config", STEP]])
def test_on_the_command_line(checkpoint, line):
    model = checkpoint("mistral")
    assert keeps_all_tokens(served(model, *line))
    assert not keeps_all_tokens(served(model, *line, "--no-disable-hybrid-kv-cache-manager"))


@pytest.mark.parametrize(
    "options",
    [
        engine_options(load_recipe("math-shepherd"), {}),  # what PRM(...) asks for
        PRM,
        {**POOLING, "pooler_config": step_config(), "enable_prefix_caching": True},
    ],
    ids=["PRM", "LLM", "STEP"],
)
def test_offline_and_the_engine_says_so(checkpoint, said, options):
    assert keeps_all_tokens(offline(checkpoint("mistral"), **options))
    assert len(said) == 1
    assert "It costs KV memory for prompts longer than the window (4096 tokens)" in said[0]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("mistral", {**PRM, "disable_hybrid_kv_cache_manager": False}),
        ("mistral", {**PRM, "enable_prefix_caching": False}),
        ("mistral", {**PRM, "disable_sliding_window": True, "max_model_len": 4096}),
        ("mistral", POOLING),
        ("mistral", {}),
        ("tied_llama", PRM),
        ("soft_capped_gemma2", PRM),
    ],
    ids=["the user's word", "no caching", "no window", "an embedding model", "a generator", "full", "full and windows"],
)
def test_otherwise_nothing_changes(checkpoint, said, model, options):
    assert not keeps_all_tokens(EngineArgs(model=checkpoint(model), **{"max_model_len": 8192, **options}))
    assert not said


def test_the_users_word_may_be_the_same(checkpoint, said):
    assert keeps_all_tokens(offline(checkpoint("mistral"), **PRM, disable_hybrid_kv_cache_manager=True))
    assert not said
