"""The wire types: what is refused, with which sentence, and what a batch keeps."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vllm_prm.aggregate import AGGREGATIONS
from vllm_prm.errors import EngineError
from vllm_prm.wire import (
    Malformed,
    RewardRequest,
    SampleRequest,
    ScoreRequest,
    ScoreResponse,
    Solution,
    explain,
    packed,
    unpacked,
)

ONE = {"question": "q", "steps": ["a", "b"]}


def refusal(model, body):
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    return explain(refused.value.errors())


def test_three_ways_to_ask():
    assert ScoreRequest.model_validate(ONE).solutions == [Solution(**ONE)]
    candidates = ScoreRequest.model_validate({"question": "q", "candidates": [["a"], ["b", "c"]]})
    assert candidates.solutions == [Solution(question="q", steps=["a"]), Solution(question="q", steps=["b", "c"])]
    assert ScoreRequest.model_validate({"inputs": [ONE, ONE]}).solutions == [Solution(**ONE)] * 2


SEEN = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "q"}]}
]


@pytest.mark.parametrize(
    ("model", "body", "found"),
    [
        (RewardRequest, {"query": ["a"], "images": [["data:,"]]}, "images holds an image"),
        (RewardRequest, {"query": ["a"], "multi_modal_data": {"image": "x"}}, "multi_modal_data holds an image"),
        (RewardRequest, {"query": [SEEN]}, "query holds a part of type 'image_url'"),
        (RewardRequest, {"query": ["a"], "prompts": [SEEN]}, "prompts holds a part of type 'image_url'"),
        (SampleRequest, {"prompt": SEEN, "response": "a"}, "prompt holds a part of type 'image_url'"),
        (SampleRequest, {"prompt": "q", "response": "a", "image": "data:,"}, "image holds an image"),
    ],
)
def test_rewards_of_images_are_refused(model, body, found):
    message, _ = refusal(model, body)
    assert message == (
        f"{found}, and this route takes texts only. Send questions with images to /v1/prm/score, as the content parts "
        "of a chat message"
    )


def test_rewards_of_texts_beside_which_images_would_stand():
    assert RewardRequest.model_validate({"query": ["a"], "prompts": ["a"], "images": [None], "image": None}).query == [
        "a"
    ]
    words = [{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "thinking"}]}]
    assert SampleRequest.model_validate({"prompt": words, "response": "a", "images": []}).prompt[0].role == "user"
    deep = json.loads("[" * 500 + "]" * 500)
    message, _ = refusal(RewardRequest, {"query": deep})
    assert "input should be a valid string" in message


def test_defaults():
    request = ScoreRequest.model_validate(ONE)
    assert (request.model, request.aggregate, request.returned, request.priority) == (None, None, "scores", 0)
    assert request.encoding_format == "float"


def test_a_malformed_solution_of_a_batch_keeps_its_place():
    inputs = [ONE, {"question": "q"}, "text", {**ONE, "stps": 1}, {"question": "q", "steps": ["a", 1]}, ONE]
    found = ScoreRequest.model_validate({"inputs": inputs}).solutions
    assert found == [
        Solution(**ONE),
        Malformed("steps: is missing", "steps"),
        Malformed('expected a JSON object, found the text "text"', None),
        Malformed("stps: is not a field of this request; check its spelling", "stps"),
        Malformed("steps.1: input should be a valid string, found the number 1", "steps.1"),
        Solution(**ONE),
    ]
    found = ScoreRequest.model_validate({"question": "q", "candidates": [["a"], "b", [None]]}).solutions
    assert [isinstance(one, Malformed) for one in found] == [False, True, True]


@pytest.mark.parametrize("given", [(), ("steps", "inputs"), ("steps", "candidates"), ("candidates", "inputs")])
def test_exactly_one_form(given):
    forms = {"steps": ["a"], "candidates": [["a"]], "inputs": [ONE]}
    message, _ = refusal(ScoreRequest, {"question": "q", **{name: forms[name] for name in given}})
    assert message == f"give exactly one of steps, candidates and inputs; found {' and '.join(given) or 'none of them'}"


def test_every_aggregation_is_known_and_no_other():
    for how in AGGREGATIONS:
        assert ScoreRequest.model_validate({**ONE, "aggregate": how}).aggregate == how
    message, param = refusal(ScoreRequest, {**ONE, "aggregate": "max"})
    assert all(repr(how) in message for how in AGGREGATIONS)
    assert param == "aggregate"


def test_messages_are_bounded():
    message, _ = refusal(ScoreRequest, {"question": "q", "steps": [1] * 10_000})
    assert message.endswith("; and 9995 more")
    assert len(message) < 500
    message, _ = refusal(ScoreRequest, {"question": ["x" * 10_000], "steps": "y" * 10_000})
    assert len(message) < 500


def test_text_that_cannot_be_sent_on():
    message, param = refusal(ScoreRequest, {"question": "ab\ud800", "steps": ["a"]})
    assert message == (
        "question: character 2 is half of a surrogate pair, U+D800, which is no text; send both halves or none"
    )
    assert param == "question"
    message, _ = refusal(ScoreRequest, {**ONE, "aggregate": "\ud800"})
    message.encode()


def test_reward_request():
    request = RewardRequest.model_validate({"query": ["a"], "prompts": None, "labels": [3], "templates": "x"})
    assert request.query == ["a"]
    assert refusal(RewardRequest, {"query": ["a"], "prompts": []}) == (
        "expected one prompt per query, found 0 prompts for 1 queries",
        None,
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("qs"), inner, max_size=2),
    max_leaves=5,
)
fields = st.sampled_from([*ScoreRequest.model_fields, "return", "x"])


@given(st.dictionaries(fields, json_values | st.just(["a"]) | st.just("q"), max_size=5) | json_values)
def test_any_json_is_taken_or_refused_in_a_sentence(body):
    try:
        request = ScoreRequest.model_validate(body)
    except ValidationError as error:
        message, _ = explain(error.errors())
        assert message
        assert len(message) < 2000
        json.dumps(message, ensure_ascii=False).encode()
    else:
        assert request.solutions
        for solution in request.solutions:
            assert isinstance(solution, Malformed) or all(isinstance(step, str) for step in solution.steps)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1))
def test_float32_values_cross_json_exactly(values):
    entry = {
        "index": 0, "object": "prm.score", "step_scores": values, "score": values[0], "first_error": None,
        "logits": [values], "num_prompt_tokens": 1, "num_cached_tokens": 0,
    }  # fmt: skip
    usage = {"prompt_tokens": 1, "total_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0}}
    body = {"id": "prm-1", "object": "list", "created": 1, "model": "m", "aggregate": "min", "data": [entry]}
    sent = ScoreResponse.model_validate({**body, "usage": usage}).model_dump(exclude_unset=True)
    assert sent == {**body, "usage": usage}  # nothing added, first_error: null kept
    assert json.loads(json.dumps(sent))["data"][0]["logits"] == [values]


float32s = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(
    st.integers(1, 3).flatmap(lambda width: st.lists(st.lists(float32s, min_size=width, max_size=width), min_size=1))
)
def test_rows_cross_the_wire_exactly_as_lists_and_packed(rows):
    width = len(rows[0])
    text = packed(rows)
    assert packed(tuple(map(tuple, rows))) == packed(np.array(rows)) == text
    floats = [value for row in rows for value in row]
    assert base64.b64decode(text) == struct.pack(f"<{len(floats)}f", *floats)  # as another client would read it
    for sent in (text, rows):
        assert np.array_equal(unpacked(json.loads(json.dumps(sent)), width), rows)
    assert unpacked(text, width).dtype == np.float32


def test_no_rows():
    assert packed([]) == ""
    assert unpacked("", 2).shape == unpacked([], 2).shape == (0, 2)


@pytest.mark.parametrize(
    "rows", ["AAAA", "AAAAAA==", packed([[1.0, 2.0, 3.0]]), "no base64!", "ки", [[1.0]], [[1.0], [2.0, 3.0]]]
)
def test_what_is_no_rows_of_two(rows):
    with pytest.raises(EngineError, match="expected rows of 2 numbers"):
        unpacked(rows, 2)
