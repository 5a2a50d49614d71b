"""`visualprm` on a small InternVL with images, through vLLM's own processor, against its authors' code in torch."""

from __future__ import annotations

import internvl
import numpy as np
import pytest
import seeing
from oracle import TOLERANCE
from seeing import SIZES, STEPS, part, picture, words

from vllm_prm import PRM, PRMError, RequestError

BLOCK = 32
QUESTION = "How many squares are there?"

pytestmark = pytest.mark.skipif(
    not internvl.TORCHVISION, reason="no torchvision, which is not set up with the rest: make vision"
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("internvl") / "VisualPRM-8B"
    model = internvl.save(folder)
    options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048, "block_size": BLOCK}
    options |= {"limit_mm_per_prompt": {"image": 4}, "max_num_batched_tokens": 512, "trust_remote_code": True}
    with pytest.MonkeyPatch.context() as patch:
        seeing.look_at_models_here(patch)
        with PRM(str(folder), **options) as prm:
            yield prm, model


@pytest.fixture(autouse=True)
def _empty_cache(pair):
    assert pair[0].llm.reset_prefix_cache()


def seen(*images):
    return [*map(part, images), words(QUESTION)]


def check(found, model, images, steps, question=QUESTION):
    ids, right = model.scores(question, list(images), steps)
    assert not isinstance(found, PRMError), found
    assert found.num_prompt_tokens == len(ids)
    assert np.abs(np.array(found.step_scores) - right).max() < TOLERANCE
    return right


def test_the_recipe_is_found_by_name(pair):
    assert pair[0].recipe.name == "visualprm"


def test_no_image_one_and_three_in_a_batch(pair):
    """Of several shapes, and so of 1 to 13 tiles."""
    prm, model = pair
    shapes = [(), (SIZES[1],), SIZES[1:], ((300, 30),), ((56, 56),)]
    images = [[picture(i, size) for i, size in enumerate(sizes)] for sizes in shapes]
    steps = [STEPS, STEPS, STEPS[:2], STEPS, STEPS[:1]]
    items = [(seen(*those) if those else QUESTION, its) for those, its in zip(images, steps, strict=True)]
    assert len({len(internvl.tiled(image)) for those in images for image in those}) >= 4
    found = prm.score_batch(items, progress=False)
    scores = [check(*each) for each in zip(found, [model] * len(items), images, steps, strict=True)]
    assert abs(scores[0][0] - scores[1][0]) > 1e-3, "the image is not seen in a score"


def test_again_from_the_prefix_cache(pair):
    prm, model = pair
    image = picture(3, SIZES[2])
    whole = prm.score(seen(image), STEPS)
    assert whole.num_cached_tokens == 0
    again = prm.score(seen(picture(3, SIZES[2])), STEPS)  # another object that shows the same
    assert again.num_cached_tokens == (whole.num_prompt_tokens - 1) // BLOCK * BLOCK
    assert again.step_scores == whole.step_scores
    longer = prm.score(seen(image), [*STEPS, "So it is."])
    assert longer.num_cached_tokens >= again.num_cached_tokens - BLOCK
    check(longer, model, [image], [*STEPS, "So it is."])


def test_another_image_behind_the_same_tokens(pair):
    prm, model = pair
    one, two = picture(30, SIZES[2]), picture(31, SIZES[2])
    found = [prm.score(seen(image), STEPS) for image in (one, two)]
    assert found[0].num_prompt_tokens == found[1].num_prompt_tokens
    before = internvl.tokenizer().encode(f"<|im_start|>system\n{internvl.INTERN}<|im_end|>\n<|im_start|>user\n")
    assert found[1].num_cached_tokens <= len(before) + len("### Question:\n") + 1, "only what stands before the image"
    for result, image in zip(found, (one, two), strict=True):
        check(result, model, [image], STEPS)


def test_a_plus_in_a_step_and_in_the_question(pair):
    prm, model = pair
    question, steps = "What is 1 + 1, as shown?", ["1 + 1 = 2", "+", "So 2 + 0."]
    image = picture(4)
    found = prm.score([part(image), words(question)], steps)
    check(found, model, [image], steps, question)


def test_a_prompt_too_long(pair):
    """That fits without the image's tokens."""
    asked = seen(picture(5, SIZES[1]))
    length = pair[0].score(asked, ["a"]).num_prompt_tokens
    longest = "a" * (1 + 2048 + 3 - length)  # 3 tokens too many; each letter is one
    with pytest.raises(RequestError, match="2051 tokens, .* of them for its 1 images, and the model takes 2048"):
        pair[0].score(asked, [longest])
    assert pair[0].score(asked, [longest[3:]]).num_prompt_tokens == 2048
