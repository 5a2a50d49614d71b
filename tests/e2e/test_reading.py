"""Where and how a recipe reads: several tags, token sequences, before the tag, explicit positions, other heads."""

from __future__ import annotations

import random

import other_heads
import pytest
from checkpoints import TAG, real_tokenizer
from conftest import running
from oracle import TOLERANCE, Oracle, difference, tokens, words
from vllm import PoolingParams
from vllm.exceptions import VLLMValidationError

from vllm_prm import RecipeError, load_recipe
from vllm_prm.engine.start.options import engine_options

BLOCK = 32
SEQUENCE = (700, TAG, 701)  # a tag of three tokens, that holds another recipe's tag
OTHER = 900
READ_BEFORE = {
    "name": "two tags, read before",
    "step_tag": [{"id": list(SEQUENCE)}, {"id": OTHER}],
    "offset": -1,
    "scoring_tokens": {"good": {"piece": "▁+", "weight": 1.0}, "bad": {"piece": "▁-", "weight": 0.0}},
}


def encode(llm, *prompts, params=None, **more):
    params = params or PoolingParams(**more)
    outputs = llm.encode([tokens(ids) for ids in prompts], params, pooling_task="embed", use_tqdm=False)
    return [output.outputs.data for output in outputs], [output.num_cached_tokens for output in outputs]


class TestBeforeTheTag:
    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls, checkpoint):
        folder = checkpoint("mistral")
        options = {"hf_overrides": {"prm": READ_BEFORE}, "block_size": BLOCK, "max_num_batched_tokens": 64}
        with running(folder, **options) as llm:
            yield llm, Oracle(folder)

    @staticmethod
    def solution(seed: int, steps: int) -> tuple[list[int], list[int]]:
        """A prompt with tags of both kinds, and the positions just before their last tokens, in order."""
        rng, ids, positions = random.Random(seed), [1], []
        for _ in range(steps):
            ids += words(rng, rng.randint(1, 20))
            ids += [700, TAG, 702] if rng.random() < 0.3 else []  # begins like the sequence, and is not it
            ids += SEQUENCE if rng.random() < 0.5 else [OTHER]
            positions.append(len(ids) - 2)
        return ids, positions

    def test_several_tags_and_a_sequence(self, pair):
        llm, oracle = pair
        asked = [self.solution(seed, steps) for seed, steps in enumerate((1, 2, 20, 60))]
        for (ids, positions), found in zip(asked, encode(llm, *(ids for ids, _ in asked))[0], strict=True):
            assert difference(found, oracle.logits_at(ids, positions).softmax(-1)[:, 0]) < TOLERANCE

    @pytest.mark.parametrize("end", range(BLOCK, BLOCK + 4))  # of the sequence: before, on and after the block's border
    def test_a_tag_across_a_block_border_read_from_the_cache(self, pair, end):
        llm, oracle = pair
        ids = [1, *words(random.Random(end), end - 4), *SEQUENCE, *words(random.Random(0), 60), OTHER]
        expected = oracle.logits_at(ids, [end - 2, len(ids) - 2]).softmax(-1)[:, 0]
        assert llm.reset_prefix_cache()
        for cached in (0, 3 * BLOCK if len(ids) > 3 * BLOCK else 2 * BLOCK):
            (found,), (count,) = encode(llm, ids)
            assert count == cached
            assert difference(found, expected) < TOLERANCE

    def test_a_tag_that_begins_the_prompt_cannot_be_read_before(self, pair):
        llm, oracle = pair
        ids = [OTHER, *words(random.Random(3), 5), OTHER]
        assert difference(encode(llm, ids)[0][0], oracle.logits_at(ids, [5]).softmax(-1)[:, 0]) < TOLERANCE

    def test_a_request_with_a_tag_of_its_own_is_read_at_it(self, pair):
        llm, oracle = pair
        ids = [1, *words(random.Random(4), 9), 901, 5, OTHER]
        (found,), _ = encode(llm, ids, step_tag_id=901)
        assert difference(found, oracle.logits_at(ids, [10]).softmax(-1)[:, 0]) < TOLERANCE


class TestExplicitPositions:
    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls, checkpoint):
        folder = checkpoint("mistral")
        options = {"hf_overrides": {"prm": "math-shepherd"}, "block_size": BLOCK, "max_num_batched_tokens": 64}
        with running(folder, **options) as llm:
            yield llm, Oracle(folder)

    @staticmethod
    def at(positions, **more):
        return PoolingParams(extra_kwargs={"prm": {"positions": positions}}, **more)

    def test_logits_at_any_position_computed_or_cached(self, pair):
        llm, oracle = pair
        ids = [1, *words(random.Random(1), 200)]
        for positions in ([0, 63, 64, 200], [5], list(range(201))):  # the second time from the cache
            (found,), _ = encode(llm, ids, params=self.at(positions, use_activation=False))
            assert difference(found, oracle.logits_at(ids, positions).flatten()) < TOLERANCE

    def test_with_scoring_tokens_of_its_own(self, pair):
        llm, oracle = pair
        ids = [1, *words(random.Random(1), 200)]
        params = self.at([3, 150], use_activation=False, returned_token_ids=[5, 77, 300])
        (found,), (cached,) = encode(llm, ids, params=params)
        assert cached == 0
        assert difference(found, oracle.logits_at(ids, [3, 150], (5, 77, 300)).flatten()) < TOLERANCE

    def test_tags_in_the_text_do_not_count(self, pair):
        llm, oracle = pair
        ids = [1, 50, TAG, 60, TAG, TAG]
        (found,), _ = encode(llm, ids, params=self.at([4]))
        assert difference(found, oracle.logits_at(ids, [4]).softmax(-1)[:, 0]) < TOLERANCE

    def test_none_is_an_empty_list(self, pair):
        (found,), _ = encode(pair[0], [1, 50, TAG], params=self.at([]))
        assert found.tolist() == []

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"positions": [3, 3]}, r"positions contains 3 after 3; expected integers in ascending order"),
            ({"positions": [-1]}, r"positions contains -1 after -1"),
            ({"positions": [8192]}, r"positions contains 8192 .* from 0 to 8191"),
            ({"positions": [True]}, "positions contains True"),
            ({"positions": 3}, 'expected {"positions"'),
            ([1], 'expected {"positions"'),
        ],
    )
    def test_bad_ones_are_refused(self, pair, asked, message):
        with pytest.raises((ValueError, VLLMValidationError), match=message):
            encode(pair[0], [1, 2, 3], params=PoolingParams(extra_kwargs={"prm": asked}))

    def test_a_tag_and_positions_are_one_too_many(self, pair):
        with pytest.raises(ValueError, match="names both step_tag_id and positions"):
            encode(pair[0], [1, 2, 3], params=self.at([1], step_tag_id=5))

    def test_a_position_behind_the_prompt_gives_nothing_and_harms_nobody(self, pair):
        llm, oracle = pair
        ids = [1, *words(random.Random(8), 40), TAG]
        params = [self.at([1, 42]), PoolingParams()]
        outputs = llm.encode([tokens(ids)] * 2, params, pooling_task="embed", use_tqdm=False)
        assert outputs[0].outputs.data.tolist() == []
        assert difference(outputs[1].outputs.data, oracle.scores(ids)) < TOLERANCE


TWO_CLASSES = {
    "name": "two classes",
    "step_tag": {"piece": "▁ки"},
    "head": "own",
    "scoring_tokens": {"good": {"id": 1, "weight": 1.0}, "bad": {"id": 0, "weight": 0.0}},
}
VALUE = {
    "name": "value",
    "step_tag": {"piece": "▁ки"},
    "head": "linear",
    "head_names": ["v_head.summary"],
    "activation": "sigmoid",
    "architecture": "Qwen2ForCausalLM",
    "scoring_tokens": {"good": {"id": 0, "weight": 1.0}},
}

TWO_VALUES = {
    **VALUE,
    "activation": "softmax",
    "scoring_tokens": {"good": {"id": 0, "weight": 1.0}, "bad": {"id": 1, "weight": 0.0}},
}


def prompts() -> list[list[int]]:
    rng, asked = random.Random(9), []
    for steps in (1, 3, 30):
        ids = [1]
        for _ in range(steps):
            ids += [*words(rng, rng.randint(1, 20)), TAG]
        asked.append(ids)
    return asked


def step_positions(ids: list[int]) -> list[int]:
    return [i for i, id_ in enumerate(ids) if id_ == TAG]


@pytest.fixture(scope="module")
def own_head(tmp_path_factory):
    """A folder, and token ids -> the logits of its steps."""
    folder = tmp_path_factory.mktemp("own")
    logits = other_heads.own_head(folder, real_tokenizer())
    return str(folder), lambda ids: logits(ids)[step_positions(ids)]


@pytest.fixture(scope="module")
def value_head(tmp_path_factory):
    folder = tmp_path_factory.mktemp("value")
    logits = other_heads.linear_head(folder, real_tokenizer())
    return str(folder), lambda ids: logits(ids)[step_positions(ids)]


CACHED = {"block_size": BLOCK, "max_num_batched_tokens": 64}


def test_a_reward_model_with_its_own_head(own_head):
    folder, logits = own_head
    with running(folder, **engine_options(load_recipe(TWO_CLASSES), CACHED)) as llm:
        for cached in (False, True):
            found, counts = encode(llm, *prompts())
            assert (counts[-1] > 0) == cached
            for ids, scores in zip(prompts(), found, strict=True):
                assert difference(scores, logits(ids).softmax(-1)[:, 1]) < TOLERANCE
        ids = prompts()[1]
        raw = logits(ids)[:, [1, 0]].flatten()  # columns in the recipe's order: good, bad
        assert difference(encode(llm, ids, use_activation=False)[0][0], raw) < TOLERANCE
        with pytest.raises(ValueError, match="reads a head of its own; leave it out"):
            encode(llm, ids, returned_token_ids=[1])


def test_a_reward_model_with_its_own_head_and_no_recipe_is_vllms(own_head):
    folder, logits = own_head
    with running(folder, pooler_config={"step_tag_id": TAG}) as llm:
        ids = prompts()[1]
        (output,) = llm.encode([tokens(ids)], pooling_task="token_classify", use_tqdm=False)
        assert difference(output.outputs.data, logits(ids).softmax(-1)) < TOLERANCE


def test_a_linear_head_in_the_place_of_the_output_head(value_head):
    folder, values = value_head
    with running(folder, **engine_options(load_recipe(VALUE), CACHED)) as llm:
        for cached in (False, True):
            found, counts = encode(llm, *prompts())
            assert (counts[-1] > 0) == cached
            for ids, scores in zip(prompts(), found, strict=True):
                assert difference(scores, values(ids).sigmoid()[:, 0]) < TOLERANCE


def test_a_recipe_for_another_kind_of_head_is_refused(own_head, value_head, checkpoint):
    for folder, recipe, message in [
        (own_head[0], "math-shepherd", "has a head of its own, but the recipe reads its lm_head"),
        (checkpoint("mistral"), TWO_CLASSES, "generates text and has none"),
        (checkpoint("mistral"), {**VALUE, "architecture": None}, "no weight v_head.summary.weight, from which"),
        (value_head[0], TWO_VALUES, r"shape \[1(, 128)?\], and the recipe names 2 columns of 128 inputs"),
    ]:
        with pytest.raises((RecipeError, ValueError), match=message), running(folder, hf_overrides={"prm": recipe}):
            pass
