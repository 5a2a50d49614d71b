"""The recipe `judge`: where any chat template's answers begin, which tokens they are, and what is said of neither."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import vocabularies
from checkpoints import real_tokenizer
from prompt_oracles import judge, judge_per_step

from vllm_prm import EngineError, RecipeError, StepScores, load_recipe
from vllm_prm.prompts import Scoring
from vllm_prm.prompts.mass import MassWatch, mass_watch
from vllm_prm.recipes import bind

QUESTION = "What is 2 + 3 * 4 - 1?"
STEPS = ["3 * 4 = 12", " Yes\n", "Is this step correct? Answer with one word, Yes or No.", "The answer is: 13"]
JUDGE = load_recipe("judge")
# Qwen 3's way: the answer that is to come has an empty thought before it, one that is past has none.
THINKS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
ONE_TURN = (
    "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}"
    "<|im_start|>user\n{{ messages[0].content }}<|im_end|>\n<|im_start|>assistant\n"
)
# Mistral 7B Instruct v0.1 and v0.2: the opening of an answer is the end of the user's turn, and a space follows it.
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
    "[INST] {{ message.content }} [/INST]{% else %} {{ message.content }}</s>{% endif %}{% endfor %}"
)
OPENS_NOTHING = vocabularies.QWEN_CHAT.partition("{% if add_generation_prompt %}")[0]


@cache
def qwen(template):
    return variant(vocabularies.qwen25(), template)


def variant(tokenizer, template):
    backend = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, clean_up_tokenization_spaces=False)
    backend.bos_token, backend.chat_template = tokenizer.bos_token, template
    return backend


def reads(recipe, tokenizer, steps=STEPS):
    scoring = Scoring(QUESTION, steps, bind(recipe, tokenizer))
    return [prompt.token_ids[: position + 1] for prompt in scoring.prompts for position in prompt.positions], scoring


def test_one_conversation_is_read_where_each_answer_begins():
    for tokenizer in (vocabularies.qwen25(), qwen(vocabularies.QWEN_CHAT.replace("content }}", "content | trim }}"))):
        seen, scoring = reads(JUDGE, tokenizer)
        expected = judge(QUESTION, STEPS, tokenizer)
        assert seen == [read.seen for read in expected]
        assert bind(JUDGE, tokenizer).scoring_ids == expected[0].columns
        assert len(scoring.prompts) == 1


def test_a_prefix_of_a_solution_is_a_prefix_of_its_prompt():
    tokenizer = vocabularies.qwen25()
    prompts = [reads(JUDGE, tokenizer, STEPS[:count])[1].prompts[0] for count in (1, 2, 3, 4)]
    for short, long in zip(prompts, prompts[1:], strict=False):
        assert long.token_ids[: len(short.token_ids)] == short.token_ids


@pytest.mark.parametrize("template", [THINKS, ONE_TURN])
def test_a_template_that_writes_past_answers_otherwise_gets_a_chat_per_step(template):
    seen, scoring = reads(JUDGE, qwen(template))
    assert seen == [read.seen for read in judge_per_step(QUESTION, STEPS, qwen(template))]
    assert len(scoring.prompts) == len(STEPS)
    assert [prompt.positions for prompt in scoring.prompts] == [(len(p.token_ids) - 1,) for p in scoring.prompts]
    scoring.take([np.array([[-1.0 - step, -1.0]], np.float32) for step in range(len(STEPS))])
    assert [row[0] for row in scoring.result().logits] == [-1.0, -2.0, -3.0, -4.0]


def test_a_chat_per_step_and_one_chat_can_be_asked_for():
    per_step = load_recipe({"base": "judge", "prompt": {"chats": "per step"}})
    assert len(reads(per_step, vocabularies.qwen25())[1].prompts) == len(STEPS)
    one = load_recipe({"base": "judge", "prompt": {"chats": "one"}})
    assert len(reads(one, vocabularies.qwen25())[1].prompts) == 1
    with pytest.raises(RecipeError, match=r"does not allow: where an answer begins it writes .*<think>.*'per step'"):
        bind(one, qwen(THINKS))
    with pytest.raises(RecipeError, match="does not allow: one turn only"):
        bind(one, qwen(ONE_TURN))


def test_answers_are_the_tokens_that_the_template_writes():
    """After [/INST] comes a space, which sentencepiece takes into the word; after a newline there is none."""
    tokenizer = real_tokenizer()
    tokenizer.chat_template = INST
    bound = bind(JUDGE, tokenizer)
    assert tokenizer.convert_ids_to_tokens(list(bound.scoring_ids)) == ["▁Yes", "▁No"]
    (prompt,) = Scoring(QUESTION, STEPS, bound).prompts
    following = [prompt.token_ids[position + 1] for position in prompt.positions[:-1]]
    assert following == [bound.scoring_ids[0]] * (len(STEPS) - 1)
    assert tokenizer.convert_ids_to_tokens(prompt.token_ids[prompt.positions[-1]]) == "]"
    assert len(prompt.token_ids) == prompt.positions[-1] + 1


def test_words_are_tried_in_order_and_none_that_fits_is_told():
    words = {"yes": {"words": ["Very good", "Yes", "No"]}}
    assert bind(load_recipe({"base": "judge", "scoring_tokens": words}), vocabularies.qwen25()).scoring_ids[0] == 9454
    words = {"yes": {"words": ["ab", " Maybe"]}}
    with pytest.raises(
        RecipeError, match=r"no word for its 'yes' token is a single token.*'ab' is \['a', 'b'\].*Give other words"
    ):
        bind(load_recipe({"base": "judge", "scoring_tokens": words}), vocabularies.qwen25())


def test_an_opening_that_ends_in_a_space_merges_with_the_word():
    tokenizer = real_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }} = {% endfor %}"
    with pytest.raises(RecipeError, match=r"'Yes' merges with the text before it, as \['▁Yes'\]"):
        bind(JUDGE, tokenizer)


def test_a_tokenizer_that_cannot_ask_is_refused():
    with pytest.raises(RecipeError, match="this tokenizer's chat template cannot"):
        bind(JUDGE, qwen(None))
    with pytest.raises(RecipeError, match="opens no answer of its own; serve a chat template that looks at add_gen"):
        bind(JUDGE, qwen(OPENS_NOTHING))


def test_the_rubric_is_a_field():
    mine = load_recipe({"base": "judge", "name": "mine", "prompt": {"rubric": "Only {braces} count."}})
    seen, _ = reads(mine, vocabularies.qwen25())
    expected = judge(QUESTION, STEPS, vocabularies.qwen25(), rubric="Only {braces} count.")
    assert seen == [read.seen for read in expected]
    system = load_recipe(
        {"base": "judge", "prompt": {"system": "Judge. {rubric}", "question": "{question} ", "rubric": "Be strict."}}
    )
    text = vocabularies.qwen25().decode(reads(system, vocabularies.qwen25())[1].prompts[0].token_ids)
    assert text.startswith("<|im_start|>system\nJudge. Be strict.<|im_end|>\n<|im_start|>user\nWhat is 2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": {"rubric": "Is {step} right?"}}, r"rubric holds \{step\}, which is filled in elsewhere"),
        ({"prompt": {"question": "{question}"}}, "there is a rubric, and no place for it"),
        ({"prompt": {"kind": "turns", "rubric": "x", "tag": "+"}}, "rubric and chats are of the kind 'judge' only"),
        ({"prompt": {"tag": "+"}}, "a judge is read where its answer begins, and needs none"),
        ({"step_tag": "x"}, "give it no step tag"),
        ({"offset": -1}, "give it no step tag .* and no offset"),
        (
            {"prompt": {"kind": "raw"}, "step_tag": "x"},
            "words for its 'yes' token, which only a prompt of kind 'judge'",
        ),
        (
            {"scoring_tokens": {"yes": {"words": ["a"], "piece": "b"}}},
            "words and a piece or an id; give one of the two",
        ),
        ({"activation": "sigmoid"}, "tells the answers' mass.*the activation 'sigmoid'; it needs .* a softmax"),
        (
            {"answer_mass": False, "head": "own", "scoring_tokens": {"yes": {"words": []}, "no": {"words": []}}},
            "leaves the 'yes' token, the 'no' token to you",
        ),
    ],
)
def test_a_judge_that_cannot_be_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe({"base": "judge", **changes})


LOGITS = np.log([[0.6, 0.2], [0.1, 0.3], [0.02, 0.02]])


def test_two_way_and_over_the_whole_vocabulary():
    two_way = StepScores.from_logits(LOGITS, JUDGE)
    whole = StepScores.from_logits(LOGITS, load_recipe({"base": "judge", "activation": "full_softmax"}))
    assert two_way.step_scores == pytest.approx([0.75, 0.25, 0.5])
    assert whole.step_scores == pytest.approx([0.6, 0.1, 0.02])
    assert two_way.answer_mass == whole.answer_mass == pytest.approx([0.8, 0.4, 0.04])
    assert two_way.to_dict()["answer_mass"] == two_way.answer_mass
    without = load_recipe({"base": "judge", "answer_mass": False})
    assert (JUDGE.reads_vocabulary, without.reads_vocabulary) == (True, False)
    assert StepScores.from_logits(LOGITS + 7, without).step_scores == pytest.approx(two_way.step_scores)
    assert StepScores.from_logits(LOGITS, load_recipe("math-shepherd")).answer_mass == ()


def test_a_model_that_wants_to_say_something_else_is_told_of(vllm_log):
    watch = MassWatch(JUDGE)
    sure, unsure = StepScores.from_logits(LOGITS[:1], JUDGE), StepScores.from_logits(LOGITS, JUDGE)
    watch.look(sure)
    assert not vllm_log.records
    for _ in range(11):
        watch.look(unsure)
    first, second = vllm_log.messages
    assert first.startswith("In 1 solution(s) the answers of recipe 'judge' (yes and no)")
    assert "less than 0.5 of the probability together, at the first step or on average (over all steps so far" in first
    assert second.startswith("In 10 solution(s)")
    vllm_log.clear()
    MassWatch(JUDGE).look(StepScores.from_logits(np.log([[0.3, 0.1], [0.9, 0.1]]), JUDGE))  # it copied its first answer
    assert len(vllm_log.messages) == 1


def test_every_scoring_is_watched(vllm_log):
    mass_watch.cache_clear()
    _, scoring = reads(JUDGE, vocabularies.qwen25())
    scoring.take([np.log(np.full((len(STEPS), 2), 0.1, np.float32))])
    assert scoring.result().answer_mass == pytest.approx([0.2] * len(STEPS))
    assert "would rather say something else" in vllm_log.text


def test_logits_that_are_no_shares_are_refused():
    with pytest.raises(EngineError, match="more than the whole vocabulary"):
        StepScores.from_logits(np.array([[3.0, 2.0]]), JUDGE)
