"""Questions with images, offline: a small Qwen2.5-VL on PRM, compared with transformers."""

from __future__ import annotations

import numpy as np
import pytest
import seeing
from oracle import TOLERANCE
from seeing import SIZES, STEPS, TURNS, part, picture, words

from vllm_prm import PRM, PRMError, RequestError, load_recipe

BLOCK = 32


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
