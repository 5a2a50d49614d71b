"""`--prm RECIPE --runner generate`: what becomes of the options, and which recipes and flags are refused.

Only the configuration is made here, as vLLM makes it for every engine.
"""

from __future__ import annotations

import pytest
from conftest import TINY_PRM
from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
from vllm.entrypoints.cli.serve import make_arg_parser  # in every version, whatever file defines it
from vllm.utils.argparse_utils import FlexibleArgumentParser

from vllm_prm import RecipeError, UnsupportedError, load_recipe
from vllm_prm.engine.settings import adapter_of, is_prm, recipe_of, scores_by_generating
from vllm_prm.engine.start.options import engine_options


@pytest.fixture(scope="module")
def parser():
    return make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))


def configured(parser, *line):
    """vLLM's ModelConfig, as `vllm serve` makes it of a command line."""
    args = parser.parse_args([*line])
    args.model = args.model_tag  # as `vllm serve` does
    return AsyncEngineArgs.from_cli_args(args).create_engine_config().model_config


def test_a_generate_engine_with_a_recipe(parser):
    model_config = configured(parser, TINY_PRM, "--prm", TINY_PRM + "/prm.json", "--runner", "generate")
    assert (model_config.runner_type, model_config.convert_type) == ("generate", "none")
    assert scores_by_generating(model_config)
    assert not is_prm(model_config)
    assert recipe_of(model_config).name == load_recipe(TINY_PRM + "/prm.json").name
    assert adapter_of(model_config) is None


def test_a_generate_engine_without_one_is_vllms(parser):
    model_config = configured(parser, TINY_PRM, "--runner", "generate")
    assert not scores_by_generating(model_config)


def test_a_recipe_alone_still_means_pooling(parser):
    model_config = configured(parser, TINY_PRM, "--prm", TINY_PRM + "/prm.json")
    assert is_prm(model_config)


def test_task_embed_contradicts_it(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args([TINY_PRM, "--task", "embed", "--prm", "math-shepherd", "--runner", "generate"])
    assert "--prm means --runner pooling, but --runner generate is given" in capsys.readouterr().err


def test_a_recipe_for_an_adapter(parser):
    line = [TINY_PRM, "--enable-lora", "--lora-modules", "judge=/adapters/judge", "--runner", "generate"]
    model_config = configured(parser, *line, "--prm", f"judge={TINY_PRM}/prm.json")
    assert adapter_of(model_config) == "judge"
    assert recipe_of(model_config).name == load_recipe(TINY_PRM + "/prm.json").name


def test_a_recipe_for_an_adapter_that_is_not_there(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args([TINY_PRM, "--lora-modules", "a=/x", "--enable-lora", "--prm", "b=math-psa"])
    message = capsys.readouterr().err
    assert "--prm b=math-psa is for an adapter 'b', and --lora-modules has a" in message
    assert "--lora-modules b=FOLDER" in message


def offline(recipe, **options):
    options = {"runner": "generate", "max_model_len": 512, **options}
    return EngineArgs(model=TINY_PRM, **engine_options(recipe, options)).create_engine_config().model_config


def variant(**changes):
    return load_recipe(load_recipe(TINY_PRM + "/prm.json").to_dict() | {"name": "variant"} | changes)


def test_a_head_of_the_models_own_needs_pooling():
    own = variant(head="own", scoring_tokens={"bad": {"id": 0, "weight": 0.0}, "good": {"id": 1, "weight": 1.0}})
    with pytest.raises(UnsupportedError, match="reads the head 'own'.* start a pooling engine .*--task embed"):
        offline(own)


def test_sigmoids_need_logits():
    good = load_recipe(TINY_PRM + "/prm.json").to_dict()["scoring_tokens"]["good"]
    sigmoid = variant(activation="sigmoid", scoring_tokens={"good": good})
    with pytest.raises(UnsupportedError, match="--logprobs-mode raw_logits"):
        offline(sigmoid)
    assert scores_by_generating(offline(sigmoid, logprobs_mode="raw_logits"))


def test_a_full_softmax_needs_probabilities():
    recipe = variant(activation="full_softmax")
    with pytest.raises(UnsupportedError, match="--logprobs-mode raw_logits gives logits; add --logprobs-mode raw_logp"):
        offline(recipe, logprobs_mode="raw_logits")
    assert scores_by_generating(offline(recipe))


def test_processed_probabilities_behind_logits_processors():
    options = {"logits_processors": ["somewhere:Processor"]}
    with pytest.raises(UnsupportedError, match="--logprobs-mode raw_logprobs"):
        offline(variant(), logprobs_mode="processed_logprobs", **options)
    assert scores_by_generating(offline(variant(), **options))
    assert scores_by_generating(offline(variant(), logprobs_mode="processed_logprobs"))


def test_a_recipe_that_does_not_fit_the_tokenizer():
    with pytest.raises(RecipeError, match="math-shepherd"):
        offline(load_recipe("math-shepherd"))
