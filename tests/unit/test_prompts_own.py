"""A user's own recipe: prompts by default and by JSON, other tokenizers, and messages that teach."""

from __future__ import annotations

import json

import pytest
import vocabularies
from checkpoints import GLUED, PLUS, TAG, real_tokenizer
from conftest import TINY_PRM
from transformers import AutoTokenizer

from vllm_prm import RecipeError, RequestError, load_recipe
from vllm_prm.prompts import Scoring, split_steps
from vllm_prm.recipes import bind

MISTRAL = real_tokenizer()
OWN = {
    "name": "own",
    "step_tag": "▁ки",
    "scoring_tokens": {"good": {"piece": "▁+", "weight": 1.0}, "bad": {"piece": "▁-", "weight": 0.0}},
}


def plan_of(recipe, question, steps, tokenizer=MISTRAL, **more):
    (prompt,) = Scoring(question, steps, bind(load_recipe(recipe), tokenizer), **more).prompts
    return prompt


def text_of(prompt, tokenizer=MISTRAL):
    return tokenizer.decode(prompt.token_ids)


def llama(tag, **more):
    tokens = {"good": {"piece": "+", "weight": 1.0}, "bad": {"piece": "-", "weight": 0.0}}
    return {"name": "own", "step_tag": tag, "scoring_tokens": tokens, **more}


def test_without_a_prompt_section_steps_follow_the_question_line_by_line():
    prompt = plan_of(OWN, "Two plus two?", ["2 + 2", "4"])
    assert text_of(prompt) == "<s> Two plus two?\n2 + 2 ки\n4 ки"
    assert list(prompt.token_ids) == MISTRAL.encode("Two plus two?\n2 + 2 ки\n4 ки")
    assert [prompt.token_ids[at] for at in prompt.positions] == [TAG, TAG]


def test_a_tag_of_newlines_is_followed_by_the_next_step_at_once():
    tokenizer = vocabularies.llama3()
    prompt = plan_of(llama("ĊĊ"), "q", ["one\n", "two"], tokenizer)
    assert text_of(prompt, tokenizer) == "<|begin_of_text|>q\none\n\ntwo\n\n"
    assert len(prompt.positions) == 2


def test_a_recipe_file_is_enough(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({**OWN, "prompt": {"question": "Q: {question}\nA: ", "separator": " | "}}))
    prompt = plan_of(str(path), "q", ["one", "two"])
    assert text_of(prompt) == "<s> Q: q\nA: one ки | two ки"
    assert load_recipe(load_recipe(str(path)).to_json()) == load_recipe(str(path))


def test_another_tag_is_written_where_the_base_writes_its_own():
    prompt = plan_of({"base": "math-shepherd", "step_tag": "▁и"}, "q", ["one", "two"])
    assert text_of(prompt) == "<s> q Step 1: one и\nStep 2: two и"


def test_any_of_several_tags_is_found():
    both = {**OWN, "step_tag": ["▁ки", "ки"]}
    assert len(plan_of(both, "q", ["one", "two"]).positions) == 2
    glued = plan_of({**both, "prompt": {"tag": "ки"}}, "q", ["one", "two"])
    assert [glued.token_ids[at] for at in glued.positions] == [GLUED, GLUED]


def test_the_token_before_the_tag_is_read():
    at, before = plan_of(OWN, "q", ["one", "two"]), plan_of({**OWN, "offset": -1}, "q", ["one", "two"])
    assert before.token_ids == at.token_ids
    assert [b + 1 for b in before.positions] == list(at.positions)


def test_the_tiny_prm_reads_what_it_was_trained_on():
    tokenizer = AutoTokenizer.from_pretrained(TINY_PRM)
    question = "Mia has 12 apples. She buys 5. She eats 9. How many now?"
    prompt = plan_of(TINY_PRM, question, ["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 8"], tokenizer)
    assert list(prompt.token_ids) == tokenizer.encode(question + " Step 1: 12 + 5 = 17 ки\nStep 2: 17 - 9 = 8 ки")
    assert plan_of(TINY_PRM, question, ["12 + 5 = 17", "17 - 9 = 8"], tokenizer) == prompt


class Mangled:
    """A tokenizer as transformers 5 reads a folder that has only tokenizer.model: no BOS, no leading space."""

    bos_token_id = 1

    def encode(self, text, add_special_tokens=True):
        words = MISTRAL.encode("<s>" + text, add_special_tokens=False)
        return words[words.index(1) + 1 :]

    def __getattr__(self, name):
        return getattr(MISTRAL, name)


def test_prompts_are_built_right_with_a_tokenizer_that_reads_texts_wrong():
    assert Mangled().encode("+ - ки") != MISTRAL.encode("+ - ки")
    for question in ("Two plus two?", " Two", "+"):
        right = plan_of("math-shepherd", question, ["2 + 2", "4"])
        assert plan_of("math-shepherd", question, ["2 + 2", "4"], Mangled()) == right


def test_whoever_sends_whole_texts_is_told_that_they_are_tokenized_otherwise():
    recipe = load_recipe("math-shepherd")
    assert bind(recipe, MISTRAL).notice is None
    notice = bind(recipe, Mangled()).notice
    assert str(Mangled().encode(recipe.probe.text)) in notice
    assert str(list(recipe.probe.ids)) in notice


def test_a_tokenizer_that_splits_the_probe_in_no_known_way_is_refused():
    recipe = {**OWN, "probe": {"text": "+ -", "ids": [PLUS, 5, 5]}}
    with pytest.raises(RecipeError, match="neither a BOS nor a leading space mends that"):
        plan_of(recipe, "q", ["a"])


@pytest.mark.parametrize(
    ("question", "steps", "message"),
    [
        (None, ["a"], "question is null; expected text"),
        ("q", "Step 1: a ки", "steps is one text; expected a list .*split_steps"),
        ("q", 7, "steps is the number 7; expected a list"),
        ("q", [], "there are no steps to score"),
        ("q", ["a", 3], "step 2 of 2 is the number 3; expected text"),
        ("q", ["a", " \n"], "step 2 of 2 is empty; leave it out"),
        ("q", ["a", "b<s>"], r"the tag ' ки' after step 2 of 2 is not the step tag \[12902\]"),
    ],
)
def test_a_solution_that_cannot_be_scored_is_refused_with_its_step(question, steps, message):
    with pytest.raises(RequestError, match=message):
        plan_of("math-shepherd", question, steps)


def test_a_prompt_that_is_too_long_says_which_step_no_longer_fits():
    steps = ["one", "two", "three"]
    whole = plan_of("math-shepherd", "q", steps)
    assert plan_of("math-shepherd", "q", steps, max_tokens=len(whole.token_ids)) == whole
    for short, late in ((len(whole.token_ids) - 1, 3), (whole.positions[1], 2), (3, 1)):
        with pytest.raises(RequestError, match=f"the model takes {short}: step {late} of 3 no longer fits"):
            plan_of("math-shepherd", "q", steps, max_tokens=short)
    judge = bind(load_recipe("pathfinder"), vocabularies.qwen25())
    longest = max(len(prompt.token_ids) for prompt in Scoring("q", ["a", "b"], judge).prompts)
    with pytest.raises(RequestError, match="step 2 of 2 no longer fits"):
        Scoring("q", ["a", "b"], judge, max_tokens=longest - 1)


def test_a_glued_tag_is_refused_with_what_became_of_it():
    glued = {**OWN, "prompt": {"tag": "ки"}}
    with pytest.raises(RequestError, match=rf"the tag 'ки' after step 1 of 1 .*{GLUED}.*a leading space"):
        plan_of(glued, "q", ["one."])


def test_a_tokenizer_without_a_chat_template_is_refused():
    tokenizer = AutoTokenizer.from_pretrained(TINY_PRM)
    assert tokenizer.chat_template is None
    recipe = {**json.loads(load_recipe(TINY_PRM).to_json()), "prompt": {"kind": "chat", "question": "{question}"}}
    with pytest.raises(RecipeError, match="chat template cannot .*Serve the tokenizer that came with the model"):
        plan_of(recipe, "q", ["a"], tokenizer)


def test_a_recipe_for_another_tokenizer_is_refused():
    with pytest.raises(
        RecipeError, match="its step tag '<extra_0>' to be one token, but the served tokenizer has no such piece"
    ):
        plan_of("qwen2.5-math-prm", "q", ["a"])
    with pytest.raises(RecipeError, match="step tag 'ĠĊĊĊĊ' has id 22701 in the served tokenizer, expected 23535"):
        plan_of("versaprm", "q", ["a"], vocabularies.qwen25())


def test_segments_need_a_bos():
    recipe = json.loads(load_recipe("skywork-o1-prm").to_json())
    tokenizer = vocabularies.qwen25()
    without = type("NoBos", (), {"bos_token_id": None, "__getattr__": lambda self, name: getattr(tokenizer, name)})()
    with pytest.raises(RecipeError, match="begins with BOS, and this tokenizer has none"):
        plan_of(recipe, "q", ["a"], without)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"kind": "rew"}, "prompt.kind: Input should be 'raw', 'segments', .* found 'rew'"),
        ({"kind": "raw", "seperator": ""}, "prompt.seperator: Unexpected keyword argument"),
        ({"question": "Q:"}, "question is 'Q:'; it must hold {question} exactly once"),
        ({"step": "{step} {step}"}, "it must hold {step} exactly once"),
        ({"tag": ""}, "tag is empty; give the text that ends a step"),
        ({"system": "Be brief."}, "only chats .* have a system turn"),
        ({"passes": ["{tag}"]}, "only the kind 'passes' has them"),
        ({"answer": "."}, "only the kind 'dialogue' writes answers back"),
        ({"kind": "passes", "tag": "x"}, "every pass must hold {tag}"),
        ({"kind": "passes", "tag": "x", "passes": ["{tag} {tag}"]}, "it must hold {tag} once; found '{tag} {tag}'"),
        ({"kind": "dialogue"}, "tag is missing"),
        ({"split": ["\n", ""]}, "split holds an empty text"),
    ],
)
def test_a_bad_prompt_section_says_what_to_mend(prompt, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe({**OWN, "prompt": prompt})


@pytest.mark.parametrize(
    ("name", "text", "steps"),
    [
        ("math-shepherd", "Step 1: a. ки\nStep 2: b + ки", ["Step 1: a.", "Step 2: b +"]),
        ("math-shepherd", "Step 1: a.\nStep 2: b", ["Step 1: a.", "Step 2: b"]),
        ("math-shepherd", "a\nb\n\nc", ["a\nb", "c"]),
        ("rlhflow-deepseek", "a + b\nc\n\nd\n\n", ["a + b\nc", "d"]),
        ("rlhflow-mistral", "Step 1: a + b ки\nStep 2: c", ["Step 1: a + b", "Step 2: c"]),
        ("versaprm", "a \n\n\n\nb\n\nc \n\n\n\n", ["a", "b\n\nc"]),
        ("skywork-o1-prm", "a\nb\n\nc", ["a", "b", "c"]),
        ("qwen2.5-math-prm", "a<extra_0>b<extra_0>", ["a", "b"]),
        ("qwen2.5-math-prm", "a\n\nb", ["a", "b"]),
        ("pathfinder", "a\n\nb\nc", ["a", "b\nc"]),
        ("math-shepherd", "one step", ["one step"]),
    ],
)
def test_a_solution_is_cut_into_steps(name, text, steps):
    assert split_steps(text, load_recipe(name)) == steps


@pytest.mark.parametrize(
    ("text", "message"), [(None, "the solution is null; expected text"), (" ки\n", "there is no step in")]
)
def test_what_is_no_solution_is_refused(text, message):
    with pytest.raises(RequestError, match=message):
        split_steps(text, load_recipe("math-shepherd"))
