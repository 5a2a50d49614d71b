"""`--task` and `--prm` on vLLM's own parser, as `vllm serve` builds it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from vllm.entrypoints.cli.serve import make_arg_parser  # in every version, whatever file defines it
from vllm.utils.argparse_utils import FlexibleArgumentParser

from vllm_prm import load_recipe

STEP = '{"pooling_type":"STEP","step_tag_id":12902,"returned_token_ids":[648,387]}'
KNOWN = "peiyi9979/math-shepherd-mistral-7b-prm"


@pytest.fixture(scope="module")
def parser():
    return make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))


def recipe(args):
    return load_recipe(args.hf_overrides["prm"])


@pytest.mark.parametrize(
    "line",
    [
        f"{KNOWN} --task embed",
        f"--task embed {KNOWN}",
        f"--task reward --model {KNOWN}",
        f"{KNOWN.upper()} --task embed",
        "mistralai/Mistral-7B-v0.1 --prm math-shepherd",
        "--prm MATH-SHEPHERD mistralai/Mistral-7B-v0.1 --task embed --runner pooling --convert embed",
    ],
)
def test_a_recipe_is_chosen_wherever_the_model_stands(parser, line):
    args = parser.parse_args(line.split())
    assert (args.runner, args.convert) == ("pooling", "embed")
    assert recipe(args) == load_recipe("math-shepherd")


def test_other_overrides_are_kept(parser):
    for line in (["--task", "embed", "--hf-overrides", '{"head_dtype": "model"}'],):
        for order in (line, line[2:] + line[:2]):
            args = parser.parse_args([KNOWN, *order])
            assert args.hf_overrides["head_dtype"] == "model"
            assert recipe(args).name == "math-shepherd"


def test_vllms_own_flags_mean_what_they_say(parser):
    for line in ([KNOWN, "--task", "embed"], ["./my-prm", "--runner", "pooling", "--convert", "embed"]):
        args = parser.parse_args([*line, "--pooler-config", STEP])
        assert (args.runner, args.convert) == ("pooling", "embed")
        assert args.pooler_config.step_tag_id == 12902
        assert not args.hf_overrides


def test_task_embed_turns_on_what_vllm_turns_off_for_step(parser):
    """Prefix caching and chunked prefill: safe with our pooler, and on for a recipe by vLLM's own defaults."""
    names = ("enable_prefix_caching", "enable_chunked_prefill")

    def given(*line):
        args = parser.parse_args([KNOWN, "--pooler-config", STEP, *line])
        return tuple(getattr(args, name) for name in names)

    assert given("--task", "embed") == (True, True)
    assert given("--task", "embed", "--no-enable-prefix-caching") == (False, True)
    assert given("--task", "embed", "--no-enable-chunked-prefill") == (True, False)
    assert given("--runner", "pooling", "--convert", "embed") == (None, None)  # vLLM's own flags alone: its defaults


def test_an_unknown_model_stays_a_plain_embedding_model(parser, vllm_log):
    args = parser.parse_args(["Qwen/Qwen3-Embedding-0.6B", "--task", "embed"])
    assert (args.runner, args.convert) == ("pooling", "embed")
    assert not args.hf_overrides
    assert "No PRM recipe is known for Qwen3-Embedding-0.6B" in vllm_log.text


def test_without_our_flags_nothing_changes(parser):
    args = parser.parse_args([KNOWN])
    assert (args.runner, args.convert) == ("auto", "auto")
    assert not args.hf_overrides


def test_a_recipe_file_and_inline_json(parser, tmp_path):
    mine = {"base": "math-shepherd", "name": "mine", "step_tag": "\n\n"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(mine), encoding="utf-8")
    for spec in (str(path), json.dumps(mine)):
        assert recipe(parser.parse_args(["m", "--prm", spec])).name == "mine"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["m", "--prm", "nope"], "no recipe 'nope': known recipes are 'er-prm', "),
        (["m", "--prm", '{"name": '], "inline recipe is not JSON"),
        (["m", "--task", "classify"], "invalid choice: 'classify'"),
        (["m", "--task", "embed", "--runner", "generate"], "means --runner pooling, but --runner generate is given"),
        (["m", "--prm", "math-shepherd", "--convert", "classify"], "--convert classify is given; drop one"),
        (["m", "--prm", "math-shepherd", "--pooler-config", STEP], "both say what to score"),
    ],
)
def test_a_wrong_line_is_refused_with_a_sentence(parser, capsys, line, message):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(line)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_both_flags():
    code = (
        "import sys; from vllm.entrypoints.cli.main import main\n"
        "for words in ('--help', '--help=vllm-prm'):\n"
        "    sys.argv = ['vllm', 'serve', words]\n"
        "    try: main()\n"
        "    except SystemExit: print('THE END')\n"
    )
    shown = subprocess.check_output([sys.executable, "-c", code], text=True, stderr=subprocess.DEVNULL)
    all_groups, ours, rest = shown.split("THE END")
    assert not rest.strip()
    for page in (all_groups, ours):
        assert "--task" in page
        assert "--prm RECIPE" in page
