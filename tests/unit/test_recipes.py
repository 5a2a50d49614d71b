"""Recipes: what is accepted, what is refused, and that every refusal says what to do."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from conftest import ROOT

from vllm_prm import PRMError, Recipe, RecipeError, find_recipe, load_recipe
from vllm_prm.recipes import recipe_names

MINE = {
    "name": "mine",
    "step_tag": "\n\n",
    "scoring_tokens": {"good": {"piece": "yes", "weight": 1}, "bad": {"piece": "no", "weight": 0}},
}


def test_math_shepherd_reads_what_its_model_card_reads():
    recipe = load_recipe("math-shepherd")
    assert [tag.id for tag in recipe.step_tag] == [12902]
    assert [token.id for token in recipe.scoring_tokens] == [648, 387]
    assert recipe.weights == (1.0, 0.0)


def test_neutral_is_said_where_a_source_says_it():
    said = {name: load_recipe(name).neutral for name in recipe_names() if name != "lets-verify"}
    assert {name for name, neutral in said.items() if neutral == "good"} == {
        *("llama-prm800k", "qwen-prm800k", "pure-prm", "qwen2.5-math-prm")
    }
    assert {*said.values()} == {"good", None}
    changed = load_recipe({"base": "trl-prm", "neutral": "bad"})
    assert load_recipe(changed.to_dict()).neutral == "bad"
    with pytest.raises(RecipeError, match="neutral"):
        load_recipe({"base": "trl-prm", "neutral": "maybe"})


def test_lets_verify_counts_neutral_as_positive():
    tokens = {"good": "g", "neutral": "n", "bad": "b"}
    recipe = load_recipe({"base": "lets-verify", "step_tag": "t", "scoring_tokens": tokens})
    assert recipe.neutral == "good"
    assert [token.piece for token in recipe.scoring_tokens] == ["g", "n", "b"]
    assert recipe.weights == (1.0, 1.0, 0.0)


def test_lets_verify_weights_are_the_users_to_change():
    tokens = {"good": "g", "neutral": {"piece": "n", "weight": 0.5}, "bad": "b"}
    recipe = load_recipe({"base": "lets-verify", "step_tag": "t", "scoring_tokens": tokens})
    assert recipe.weights == (1.0, 0.5, 0.0)


def test_another_piece_drops_the_base_recipes_id_and_probe():
    recipe = load_recipe({"base": "math-shepherd", "scoring_tokens": {"good": "Ġ+"}})
    assert recipe.scoring_tokens[0].id is None
    assert recipe.scoring_tokens[1].id == 387
    assert recipe.probe is None


@pytest.mark.parametrize("name", ["peiyi9979/math-shepherd-mistral-7b-prm", "./x/Math-Shepherd-Mistral-7B-PRM/"])
def test_a_known_model_is_found_by_the_last_part_of_its_name(name):
    assert find_recipe(name) == load_recipe("math-shepherd")


def test_an_unknown_model_has_no_recipe():
    assert find_recipe("mistralai/Mistral-7B-v0.1") is None


def test_a_folder_brings_its_own_recipe(tmp_path):
    folder = tmp_path / "math-shepherd-mistral-7b-prm"  # its own file comes before its name
    folder.mkdir()
    (folder / "prm.json").write_text(json.dumps(MINE), encoding="utf-8")
    assert find_recipe(str(folder)) == load_recipe(MINE)
    assert load_recipe(str(folder / "prm.json")) == load_recipe(str(folder)) == load_recipe(MINE)


@pytest.mark.parametrize("name", ["math-shepherd"])
def test_json_round_trip(name):
    recipe = load_recipe(name)
    assert load_recipe(recipe.to_json()) == recipe


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_recipe("math-shepherd").name = "other"


OF_HEAD = {
    "own": {"scoring_tokens": {"good": {"id": 1, "weight": 1}, "bad": {"id": 0, "weight": 0}}},
    "linear": {"scoring_tokens": {"good": {"id": 0, "weight": 1}}, "activation": "sigmoid"},
}
LINEAR_PAIR = {"scoring_tokens": {"good": {"id": 1, "weight": 1}, "bad": {"id": 0, "weight": -1}}}
PROMPT_OF_KIND = {
    "passes": {"kind": "passes", "tag": "x", "passes": ["{tag}"]},
    "dialogue": {"kind": "dialogue", "tag": "x", "answer": "."},
}


def changed(**fields):
    return json.dumps({**MINE, **fields})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nope", "no recipe 'nope': known recipes are 'er-prm', 'genprm', "),
        ("{", "inline recipe is not JSON: .* line 1, column 2"),
        ("{}", "name: Field required|Missing required"),
        (changed(sorce="x"), "sorce: Unexpected keyword argument"),
        (changed(step_tag=3), "step_tag.0: .*found 3"),
        (changed(step_tag=""), "leaves the step tag to you"),
        (changed(step_tag={"piece": "x", "id": -1}), "step_tag.0.id.*: .*greater than or equal to 0, found -1"),
        (changed(step_tag={"piece": "x", "id": "12"}), "step_tag.0.id.*: .*valid integer, found '12'"),
        (changed(scoring_tokens={}), "scoring_tokens: .*at least 1 item"),
        (changed(scoring_tokens={"good": "yes"}), "scoring_tokens.0.weight: Field required"),
        (changed(scoring_tokens={"good": {"piece": "y", "weight": 2}}), "less than or equal to 1, found 2"),
        (changed(scoring_tokens={"good": {"piece": "y", "weight": 0}}), "weight 0 for every scoring token"),
        (
            changed(scoring_tokens={"a": {"piece": "y", "weight": 1}, "b": {"piece": "y", "weight": 0}}),
            "names a piece twice",
        ),
        (
            changed(scoring_tokens={"good": {"piece": "y", "weight": 1}}),
            "all have weight 1, so every step would score the",
        ),
        (
            changed(scoring_tokens={"a": {"piece": "x", "weight": 1}, "b": {"piece": "y", "weight": 1}}),
            "every step would score the same; give a second token with another weight",
        ),
        (
            changed(activation="sigmoid", scoring_tokens={name: {"piece": name, "weight": 0.8} for name in "ab"}),
            r"adds up sigmoids with the weights \[0.8, 0.8\], so a step could score more than 1",
        ),
        (changed(head="own"), "columns have numbers and no pieces, but its 'good' token has the piece 'yes'"),
        (changed(head="linear", activation="sigmoid"), "'linear'.*its 'good' token has the piece 'yes'"),
        (
            changed(head="linear", activation="sigmoid", scoring_tokens={"good": {"id": 1, "weight": 1}}),
            r"a linear head of 1 columns, but its scoring tokens have the ids \[1\]; name every column",
        ),
        (changed(head="linear", head_names=[]), "head_names: .*at least 1 item"),
        (changed(step_tag=[]), "has no step tag, so only a prompt of kind 'segments' or 'judge' knows.* kind 'raw'"),
        (changed(step_tag={"text": "x", "id": 3}), "the text 'x' and a piece or an id; give one of the two"),
        (changed(scoring_tokens={"good": {"piece": "y", "weight": -2}}), "greater than or equal to -1, found -2"),
        (changed(prompt={"kind": "chat", "bos": "none"}), "bos is 'none'; a prompt of kind 'segments' takes it"),
        (changed(prompt={"kind": "raw", "bos": "required"}), "bos is 'required'; .*a raw one 'none'"),
        (
            changed(head="linear", scoring_tokens={"good": {"id": 0, "weight": 1}}),
            "softmax over scoring tokens that all have weight 1",
        ),
        *(
            (
                changed(head=head, **OF_HEAD[head], prompt=PROMPT_OF_KIND[kind]),
                f"kind '{kind}'.*reads the head '{head}'",
            )
            for head in ("own", "linear")
            for kind in ("passes", "dialogue")
        ),
        *(
            (
                changed(activation="sigmoid", prompt=PROMPT_OF_KIND[kind]),
                f"kind '{kind}'.*activation 'sigmoid', by which a step judged wrong may score high",
            )
            for kind in ("passes", "dialogue")
        ),
        (
            changed(head="linear", activation="full_softmax", **LINEAR_PAIR),
            "over the vocabulary .*reads the head 'linear', which has a column for each class and no others",
        ),
        (changed(probe={"text": "x"}), "probe.ids: Field required|probe.ids: Missing"),
        ('{"base": "nope"}', "no recipe 'nope' to base this one on"),
        ("lets-verify", "leaves the step tag, the 'good' token, the 'neutral' token, the 'bad' token to you"),
    ],
)
def test_a_bad_recipe_says_what_to_mend(spec, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(spec)


def test_a_recipe_error_is_caught_as_ours_and_as_a_value_error():
    assert issubclass(RecipeError, PRMError)
    assert issubclass(RecipeError, ValueError)


def test_every_built_in_recipe_names_its_source():
    tokens = {"good": "g", "neutral": "n", "bad": "b"}
    given = {"lets-verify": {"step_tag": "t", "scoring_tokens": tokens}}  # a template that waits for these
    for name in recipe_names():
        assert load_recipe({"base": name, **given.get(name, {})}).source.startswith("https://")


def test_scores_are_a_weighted_sum_so_weights_line_up_with_tokens():
    recipe = load_recipe(MINE)
    assert isinstance(recipe, Recipe)
    assert len(recipe.weights) == len(recipe.scoring_tokens)


def test_the_documentation_names_every_recipe_and_its_examples_are_recipes():
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in recipe_names() if f"`{name}`" not in page] == []
    examples = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert [load_recipe(example).name for example in examples] == ["mine", "my-prm"]
