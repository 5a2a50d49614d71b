"""Engines started with a recipe: step scores, three-way labels, and refusals at start-up."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from checkpoints import GLUED, MINUS, PLUS, SENTENCEPIECE, TAG
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from vllm import PoolingParams
from vllm.exceptions import VLLMValidationError

from vllm_prm import RecipeError, UnsupportedError

GOOD, NEUTRAL, BAD = 1179, 14214, 2607  # ▁good, ▁neutral, ▁bad in Mistral v1
THREE_WAY = {
    "base": "lets-verify",
    "step_tag": "▁ки",
    "scoring_tokens": {
        "good": {"piece": "▁good", "id": GOOD},
        "neutral": {"piece": "▁neutral", "id": NEUTRAL},
        "bad": {"piece": "▁bad", "id": BAD},
    },
}


def encode(llm, prompts, params=None):
    outputs = llm.encode(prompts, params, pooling_task="embed", use_tqdm=False)
    return [output.outputs.data for output in outputs]


class TestMathShepherd:
    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls, checkpoint):
        folder = checkpoint("mistral")
        with running(folder, hf_overrides={"prm": "math-shepherd"}) as llm:
            yield llm, Oracle(folder)

    def test_one_score_per_step_from_text(self, pair):
        llm, oracle = pair
        text = "Janet's ducks lay 16 eggs. Step 1: 16 - 3 = 13 ки\nStep 2: 13 + 5 = 18 ки"
        ids = llm.get_tokenizer().encode(text)
        assert ids.count(TAG) == 2
        for found in encode(llm, [text, tokens(ids)]):
            assert difference(found, oracle.scores(ids)) < TOLERANCE

    @pytest.mark.parametrize("asked", [(5, PLUS, MINUS), (1, 0)])  # (1, 0) equals the recipe's weights (1.0, 0.0)
    def test_a_request_with_other_tokens_gets_their_probabilities(self, pair, asked):
        llm, oracle = pair
        ids = prompt(random.Random(1), 3)
        encode(llm, [tokens(ids)])
        (found,) = encode(llm, [tokens(ids)], PoolingParams(returned_token_ids=list(asked)))
        assert difference(found, oracle.probabilities(ids, TAG, asked).flatten()) < TOLERANCE

    def test_raw_logits_of_the_scoring_tokens(self, pair):
        llm, oracle = pair
        ids = prompt(random.Random(2), 3)
        (found,) = encode(llm, [tokens(ids)], PoolingParams(use_activation=False))
        assert difference(found, oracle.logits(ids).flatten()) < 1e-4  # logits of size 10

    def test_a_glued_tag_is_reported_and_gets_no_score(self, pair, vllm_log):
        llm, oracle = pair
        text = "a day.ки\nStep 2: 13 + 5 = 18 ки"
        ids = llm.get_tokenizer().encode(text)
        assert GLUED in ids
        (found,) = encode(llm, [text])
        assert difference(found, oracle.scores(ids)) < TOLERANCE
        assert len(found) == 1
        assert "token 1107, which reads like the step tag (token 12902)" in vllm_log.text
        assert "Put a space before the tag" in vllm_log.text

    def test_a_prompt_without_tags_is_no_error(self, pair):
        llm, _ = pair
        assert encode(llm, ["no steps here"])[0].tolist() == []

    @pytest.mark.parametrize(
        ("prompt_", "params", "message"),
        [
            ("x ки", {"returned_token_ids": [648, 32000]}, "returned_token_ids contains 32000"),
            ("x ки", {"returned_token_ids": [-1]}, "expected an id from 0 to 31999"),
            ("x ки", {"step_tag_id": 99999}, "step_tag_id contains 99999"),
            ("x ки", {"returned_token_ids": []}, "returned_token_ids is empty"),
            ("x ки", {"returned_token_ids": [5, 5]}, "names a token twice"),
            (tokens([]), {}, "prompt cannot be empty"),
            (tokens([1, TAG] * 5000), {}, "maximum context length is 8192"),
            (tokens([1, 32000]), {}, "out of vocabulary"),
        ],
    )
    def test_bad_requests_are_refused_and_the_engine_lives(self, pair, prompt_, params, message):
        llm, oracle = pair
        with pytest.raises((ValueError, VLLMValidationError), match=message):
            encode(llm, [prompt_], PoolingParams(**params))
        ids = prompt(random.Random(3), 2)
        assert difference(encode(llm, [tokens(ids)])[0], oracle.scores(ids)) < TOLERANCE

    def test_prompt_embeddings_are_refused(self, pair):
        import torch

        llm, oracle = pair
        with pytest.raises(ValueError, match="enable-prompt-embeds"):
            encode(llm, [{"prompt_embeds": torch.zeros(4, 128)}])
        ids = prompt(random.Random(3), 2)
        assert difference(encode(llm, [tokens(ids)])[0], oracle.scores(ids)) < TOLERANCE


def test_three_way_labels_count_neutral_as_positive(checkpoint):
    folder = checkpoint("mistral")
    ids = prompt(random.Random(9), 12)
    with running(folder, hf_overrides={"prm": json.dumps(THREE_WAY)}) as llm:
        (found,) = encode(llm, [tokens(ids)])
    probabilities = Oracle(folder).probabilities(ids, TAG, (GOOD, NEUTRAL, BAD))
    assert difference(found, probabilities[:, 0] + probabilities[:, 1]) < TOLERANCE


def with_tag(piece: str, id_: int | None = None) -> str:
    tag = {"piece": piece} if id_ is None else {"piece": piece, "id": id_}
    return json.dumps({"base": "math-shepherd", "step_tag": tag})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"hf_overrides": {"prm": "nope"}},
            RecipeError,
            "no recipe 'nope': known recipes are 'er-prm', 'gen",
        ),
        ({"hf_overrides": {"prm": '{"name"'}}, RecipeError, "inline recipe is not JSON"),
        ({"hf_overrides": {"prm": "lets-verify"}}, RecipeError, "leaves the step tag, the 'good' token"),
        (
            {"hf_overrides": {"prm": with_tag("▁Step▁over")}},
            RecipeError,
            "step tag '▁Step▁over' to be one token, but the served tokenizer has no such piece and splits",
        ),
        (
            {"hf_overrides": {"prm": with_tag("ки", 12902)}},
            RecipeError,
            "step tag 'ки' has id 1107 in the served tokenizer, expected 12902",
        ),
        (
            {"hf_overrides": {"prm": json.dumps({"base": "math-shepherd", "probe": {"text": "+ -", "ids": [7, 8]}})}},
            RecipeError,
            "neither a BOS nor a leading space mends that",
        ),
        ({"pooler_config": {"returned_token_ids": [648, 32000]}}, RecipeError, "returned_token_ids contains 32000"),
        ({"pooler_config": {"step_tag_id": None}}, RecipeError, "needs step_tag_id in the pooler config"),
        ({"pooler_config": {"returned_token_ids": []}}, RecipeError, "needs returned_token_ids"),
        (
            {"hf_overrides": {"prm": "math-shepherd"}, "enable_prompt_embeds": True},
            UnsupportedError,
            "prompt embeddings .* have no token ids",
        ),
    ],
)
def test_what_cannot_work_stops_at_start_up(checkpoint, options, error, message):
    if isinstance(pooler := options.get("pooler_config"), dict):
        options = {**options, "pooler_config": step_config(**pooler)}
    with pytest.raises(error, match=message), running(checkpoint("mistral"), **options):
        pass


def test_a_tokenizer_that_splits_the_probe_otherwise_is_reported(checkpoint, tmp_path, vllm_log):
    """The trap: transformers 5 reads a folder with only tokenizer.model without BOS and leading space."""
    folder = Path(shutil.copytree(checkpoint("mistral"), tmp_path / "only-sentencepiece"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    shutil.copy(SENTENCEPIECE, folder / "tokenizer.model")
    with running(str(folder), hf_overrides={"prm": "math-shepherd"}):
        pass
    assert "splits '+ - ки' into [28806, 387, 12902], but recipe 'math-shepherd' expects [1, 648, 387, 12902]" in (
        vllm_log.text
    )
