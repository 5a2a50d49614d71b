"""`vllm-prm` with options and words that no command knows: the command's own usage, and what to type instead."""

from __future__ import annotations

import json

import pytest
from misbehaving import Server, listening, scored

from vllm_prm import RecipeError, RequestError
from vllm_prm.cli import main, parsed
from vllm_prm.cli.sources import chosen_source
from vllm_prm.client.packing import SOLUTIONS_PER_REQUEST

AFTER_DASHES = "; options of vLLM's engine go after --, for example: vllm-prm"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("score in.jsonl --model M --dtype half", f"--dtype is no option of vllm-prm score{AFTER_DASHES} score "),
        ("score in.jsonl --model M --dtype half", "vllm-prm score ... --model M -- --dtype half"),
        ("score --dtype half in.jsonl --model M", "vllm-prm score ... --model M -- --dtype ..."),
        ("score in.jsonl --dtype=half --model M", "--dtype is no option of vllm-prm score;"),
        ("score in.jsonl --dtype=half --model M", "--model M -- --dtype=half"),
        (
            "rank --enforce-eager --model M in.jsonl --max-model-len 4k",
            f"--enforce-eager, --max-model-len are no options of vllm-prm rank{AFTER_DASHES} rank",
        ),
        ("evaluate x --model M -tp 2", "vllm-prm evaluate ... --model M -- -tp 2"),
        ("evaluate x --model M --seed -1", "vllm-prm evaluate ... --model M -- --seed -1"),
        ("doctor --model M --trust-remote-code", f"--trust-remote-code is no option of vllm-prm doctor{AFTER_DASHES}"),
        ("score a.jsonl --model M b.jsonl", "b.jsonl is not expected here; files stand side by side"),
    ],
)
def test_an_unknown_option_beside_a_model_goes_after_the_dashes(capsys, words, message):
    complaint = refused(capsys, words)
    assert message in complaint


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ("score in.jsonl --dtype half", "--dtype is no option of vllm-prm score"),
        ("score in.jsonl --server http://h --dtype=half", "--dtype is no option of vllm-prm score"),
        ("report in.jsonl -o page.html --dtype half", "--dtype is no option of vllm-prm report"),
        ("recipes --dtype half", "--dtype is no option of vllm-prm recipes"),
        ("report in.jsonl -o page.html -- --dtype half", "vllm-prm report starts no engine; expected nothing after --"),
    ],
)
def test_where_no_engine_takes_options_nothing_is_said_of_it(capsys, words, end):
    assert refused(capsys, words).endswith(f"error: {end}")


@pytest.mark.parametrize(
    ("option", "requests"), [([], 2), (["--solutions-per-request", "3"], 7), (["--solutions-per-request", "1"], 20)]
)
def test_how_many_solutions_share_a_request(tmp_path, option, requests):
    server, in_path, out_path = Server(), tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    in_path.write_text("".join(json.dumps({"question": "q", "steps": [str(n)]}) + "\n" for n in range(20)))
    with listening(server.app) as url:
        files = [str(in_path), "-o", str(out_path), "-q"]
        assert main(["score", *files, "--server", url, "--served-model", "m", *option]) == 0
    assert server.asked["score"] == requests
    answers = [json.loads(line) for line in out_path.read_text().splitlines()]
    assert [answer["step_scores"] for answer in answers] == [list(scored(float(n)).step_scores) for n in range(20)]


def test_the_command_lines_default_is_the_clients(capsys):
    args = parsed(["score", "--server", "http://h"])
    assert args.solutions_per_request == SOLUTIONS_PER_REQUEST
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    assert f"long ones fewer ({SOLUTIONS_PER_REQUEST})" in " ".join(capsys.readouterr().out.split())
    assert "'0' is not a whole number of 1 or more" in refused(capsys, "score --server u --solutions-per-request 0")


def refused(capsys, words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith(f"usage: vllm-prm {words.split()[0]} [-h]")
    return message


def test_a_rubric_makes_another_recipe_of_the_judge(capsys):
    words = ["score", "--model", "M", "--rubric", "Be strict."]
    recipe = chosen_source(parsed(words)).recipe
    assert recipe.prompt_format.rubric == "Be strict."
    assert recipe.name.startswith("judge, rubric ")  # so that a run is not resumed under another one
    assert recipe.name != chosen_source(parsed([*words[:-1], "Be kind."])).recipe.name
    with pytest.raises(RecipeError, match="rubric and chats are of the kind 'judge' only"):
        chosen_source(parsed([*words, "--recipe", "math-shepherd"]))
    with pytest.raises(RequestError, match="--rubric changes a recipe, and the server has its own; write a recipe"):
        chosen_source(parsed(["score", "--server", "http://localhost:1", "--rubric", "x"]))
