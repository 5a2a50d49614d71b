"""Questions with images, offline: a small Qwen2.5-VL on PRM, compared with transformers."""

from __future__ import annotations

import numpy as np
import pytest
import seeing
from oracle import TOLERANCE
from seeing import SIZES, part, picture, words

from vllm_prm import PRM, PRMError, load_recipe

PLUS, MINUS = 10, 12  # ids of "+" and "-" in Qwen 2.5's vocabulary
BLOCK = 32
# As RLHFlow's and VisualPRM's: one turn a step, answered by "+" or "-", read before the answer.
TURNS = {
    "name": "seeing-turns",
    "step_tag": {"piece": ["<|im_start|>", "a", "s", "s", "i", "s", "t", "a", "n", "t", "Ċ", "+"]},
    "offset": -1,
    "scoring_tokens": {"good": {"piece": "+", "weight": 1.0}, "bad": {"piece": "-", "weight": 0.0}},
    "prompt": {"kind": "turns", "question": "### Question:\n{question}\n\n### Steps:\n", "tag": "+"},
    "aggregation": "mean",
}
STEPS = ["There are 3 red squares.", "Two of them overlap, so 3 - 2 = 1.", "The answer is 1."]


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


def expected(oracle, asked, steps):
    """float64 [steps]: P("+") before each answer, from the text that the source's own code would make."""
    parts = [words(asked)] if isinstance(asked, str) else asked
    images = [entry["image_pil"] for entry in parts if entry["type"] == "image_pil"]
    shown = "".join(entry.get("text", "<|vision_start|><|image_pad|><|vision_end|>") for entry in parts)
    text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    for number, step in enumerate(steps):
        opening = f"### Question:\n{shown}\n\n### Steps:\n" if number == 0 else ""
        text += f"<|im_start|>user\n{opening}{step}<|im_end|>\n<|im_start|>assistant\n+<|im_end|>\n"
    ids, logits = oracle.logits(text, images)
    end = seeing.tokenizer().encode("assistant\n+<|im_end|>", add_special_tokens=False)
    places = [i + len(end) - 3 for i in range(len(ids)) if ids[i : i + len(end)] == end]
    assert len(places) == len(steps)
    return ids, logits[places][:, [PLUS, MINUS]].double().softmax(-1)[:, 0].numpy()


def check(found, asked, steps, oracle):
    ids, right = expected(oracle, asked, steps)
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
