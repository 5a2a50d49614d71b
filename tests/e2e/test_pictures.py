"""Questions with images, offline: a small Qwen2.5-VL on PRM, compared with transformers."""

from __future__ import annotations

import numpy as np
import pytest
import seeing
from oracle import TOLERANCE
from prompt_oracles import visualprm
from seeing import MINUS, PLUS, SIZES, STEPS, TURNS, part, picture, words

from vllm_prm import PRM, PRMError, RequestError, load_recipe
from vllm_prm.recipes import bind

BLOCK = 32
EXTRA_0 = 151651


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = seeing.save_qwen(tmp_path_factory.mktemp("seeing") / "qwen")
    with pytest.MonkeyPatch.context() as patch:
        options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "block_size": BLOCK}
        options |= {"limit_mm_per_prompt": {"image": 4}, "max_num_batched_tokens": 256, **seeing.let_vllm_see(patch)}
        with PRM(folder, load_recipe(TURNS), **options) as prm:
            yield prm, seeing.QwenOracle(folder)


@pytest.fixture(autouse=True)
def _empty_cache(pair):
    assert pair[0].llm.reset_prefix_cache()


def question(*images):
    """Text and images in turns, beginning with an image."""
    texts = ("How many squares are there?", " And here? ", "\nAnd here?", "")
    return [entry for image, text in zip(images, texts, strict=False) for entry in (part(image), words(text)) if text]


def check(found, asked, steps, oracle):
    ids, right = oracle.scores(asked, steps)
    assert not isinstance(found, PRMError), found
    assert found.num_prompt_tokens == len(ids)
    assert np.abs(np.array(found.step_scores) - right).max() < TOLERANCE


def test_no_image_one_and_three_in_a_batch(pair):
    prm, oracle = pair
    items = [
        ("What is 1 + 1?", STEPS),
        (question(picture(1, SIZES[1])), STEPS),
        (question(*(picture(i, size) for i, size in enumerate(SIZES[1:]))), STEPS[:2]),
        ("Name three squares.", STEPS[:1]),
        ([words("Look: "), part(picture(7, SIZES[2]))], STEPS),
    ]
    for (asked, steps), found in zip(items, prm.score_batch(items, progress=False), strict=True):
        check(found, asked, steps, oracle)


def test_again_from_the_prefix_cache(pair):
    """Reused whole blocks, the last of which ends before the last token, give the same scores to the last bit."""
    prm, oracle = pair
    asked = question(picture(3, SIZES[2]))
    whole = prm.score(asked, STEPS)
    assert whole.num_cached_tokens == 0
    again = prm.score(question(picture(3, SIZES[2])), STEPS)  # another object that shows the same
    assert again.num_cached_tokens == (whole.num_prompt_tokens - 1) // BLOCK * BLOCK
    assert again.step_scores == whole.step_scores
    longer = prm.score(asked, [*STEPS, "So it is."])
    assert longer.num_cached_tokens >= again.num_cached_tokens - BLOCK
    check(longer, asked, [*STEPS, "So it is."], oracle)


def test_another_image_of_the_same_size_shares_nothing_behind_it(pair):
    prm, oracle = pair
    one, two = (question(picture(seed, SIZES[2])) for seed in (20, 21))
    found = [prm.score(asked, STEPS) for asked in (one, two, one)]
    assert found[0].num_prompt_tokens == found[1].num_prompt_tokens
    before = len(seeing.tokenizer().encode("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"))
    assert found[1].num_cached_tokens <= before + 20 // BLOCK * BLOCK + BLOCK, "only what stands before the image"
    apart = np.abs(np.array(found[0].step_scores) - np.array(found[1].step_scores)).max()
    assert apart > 100 * TOLERANCE, "the images do not show in the scores: the test shows nothing"
    assert found[2].step_scores == found[0].step_scores
    for asked, scores in zip((one, two, one), found, strict=True):
        check(scores, asked, STEPS, oracle)


def test_text_that_stands_for_an_image_is_no_image(pair):
    """In a step or a question it moves no position; the engine goes on."""
    prm, oracle = pair
    asked = question(picture(4, SIZES[1]))
    items = [(asked, ["a <|image_pad|> b", *STEPS]), ([*asked, words("<|image_pad|>")], STEPS)]
    items.append(("<|image_pad|>", STEPS))
    for (_, steps), result in zip(items, prm.score_batch(items, progress=False), strict=True):
        assert len(result) == len(steps)
    check(prm.score(asked, STEPS), asked, STEPS, oracle)


def test_what_cannot_be_used_is_refused_alone(pair):
    prm, oracle = pair
    asked = question(picture(4, SIZES[1]))
    five = [part(picture(seed)) for seed in range(5)]
    items = [(five, STEPS), (asked, STEPS), ([part("file:///etc/hostname")], STEPS), ([part("nothing")], STEPS)]
    found = prm.score_batch(items, on_error="return", progress=False)
    reasons = ("4", "--allowed-local-media-path", "HTTP, data or file")
    for result, says in zip((found[0], *found[2:]), reasons, strict=True):
        assert isinstance(result, RequestError)
        assert says in str(result)
    check(found[1], *items[1], oracle)


IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
TAGGED = "".join(f"{step}<extra_0>\n" for step in STEPS)
KINDS = {  # by kind of prompt, its recipe, and the text that its model reads of a question with one image
    "raw": ({"kind": "raw", "question": "Q: {question}\n"}, f"Q: {IMAGE}\nHow many?\n{TAGGED}"),
    "chat": (
        {"kind": "chat", "question": "Q: {question}"},
        f"{SYSTEM}<|im_start|>user\nQ: {IMAGE}How many?<|im_end|>\n<|im_start|>assistant\n{TAGGED}",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_prompts(pair, monkeypatch, kind):
    """On the same engine: it reads the same scoring tokens, where it is told to."""
    prm, oracle = pair
    prompt, text = KINDS[kind]
    fields = {"name": kind, "step_tag": "<extra_0>", "scoring_tokens": TURNS["scoring_tokens"], "prompt": prompt}
    monkeypatch.setattr(prm, "_bound_recipe", bind(load_recipe(fields), prm.llm.get_tokenizer()))
    seen = picture(8, SIZES[3])
    found = prm.score([part(seen), words("How many?")], STEPS)
    ids, logits = oracle.logits(text, [seen])
    places = [i for i, token_id in enumerate(ids) if token_id == EXTRA_0]
    right = logits[places][:, [PLUS, MINUS]].double().softmax(-1)[:, 0].numpy()
    assert np.abs(np.array(found.step_scores) - right).max() < TOLERANCE


def test_visualprm_with_an_image(pair, monkeypatch):
    """Its prompt and its reading, as its source has them, with this model's placeholder in the place of "<image>"."""
    prm, oracle = pair
    monkeypatch.setattr(prm, "_bound_recipe", bind(load_recipe("visualprm"), prm.llm.get_tokenizer()))
    seen = picture(9, SIZES[1])
    found = prm.score([words("How many?"), part(seen)], STEPS)
    for index, read in enumerate(visualprm("<image>\nHow many?", STEPS, seeing.tokenizer())):
        text = seeing.tokenizer().decode(read.seen).replace("<image>", IMAGE)
        _, logits = oracle.logits(text, [seen])
        right = logits[-1][list(read.columns)].double().softmax(-1)[read.good].item()
        assert abs(found.step_scores[index] - right) < TOLERANCE
