"""Requests to our routes: one solution and its mistaken twin, and requests that make no sense with their refusals."""

from __future__ import annotations

import json

QUESTION = "Mia has 12 apples. She buys 5. She eats 9. She finds 4. How many now?"
RIGHT = ["12 + 5 = 17", "17 - 9 = 8", "8 + 4 = 12"]
WRONG = ["12 + 5 = 17", "17 - 9 = 7", "7 + 4 = 11"]
ONE = {"question": QUESTION, "steps": RIGHT}

# Body of POST /v1/prm/score, a part of the message, the field that is named.
BAD_SCORES = [
    ({}, "give exactly one of steps, candidates and inputs; found none of them", None),
    ({"question": QUESTION}, "found none of them", None),
    ({"steps": RIGHT}, "question is missing; it stands beside steps", None),
    ({**ONE, "candidates": [RIGHT]}, "found steps and candidates", None),
    ({**ONE, "inputs": [ONE]}, "found steps and inputs", None),
    ({"question": QUESTION, "inputs": [ONE]}, "every input has its own", None),
    ({"question": 3, "steps": RIGHT}, "question: expected text, or a list of content parts, found", "question"),
    ({"question": QUESTION, "steps": "1 + 1"}, 'steps: input should be a valid list, found the text "1 + 1"', "steps"),
    ({"question": QUESTION, "steps": ["a", None]}, "steps.1: input should be a valid string", "steps.1"),
    ({"question": QUESTION, "steps": []}, "step", None),
    ({"question": QUESTION, "steps": ["12 + 5 = 17", " "]}, "step", None),
    ({"question": QUESTION, "candidates": []}, "candidates: list should have at least 1 item", "candidates"),
    ({**ONE, "aggregate": "max"}, "'min', 'product', 'mean', 'last' or 'sum_log', found the text \"max\"", "aggregate"),
    ({**ONE, "return": "all"}, "'scores', 'probabilities' or 'logits', found the text \"all\"", "return"),
    ({**ONE, "encoding_format": "int8"}, "'float' or 'base64', found the text \"int8\"", "encoding_format"),
    ({**ONE, "encoding_format": None}, "encoding_format: input should be 'float' or 'base64'", "encoding_format"),
    ({**ONE, "agregate": "min"}, "agregate: is not a field of this request", "agregate"),
    ({**ONE, "priority": "high"}, 'priority: input should be a valid integer, found the text "high"', "priority"),
    ({**ONE, "priority": 10**30}, "priority: ", "priority"),
    ({"question": QUESTION, "steps": ["1 + 1 = 2"] * 10_000}, "step", None),
    ({"question": "a " * 500_000, "steps": RIGHT}, "token", None),
    ({"question": QUESTION, "steps": ["1" * 1_000_000]}, "step", None),
    ([ONE], "expected a JSON object, found a list of 1", None),
]  # fmt: skip

# Content of such a request, its type, a part of the message.
BAD_CONTENTS = [
    (b"", "application/json", "the body is empty"),
    (b"{", "application/json", "the body is not JSON: "),
    (json.dumps(ONE).encode(), "text/plain", "Only 'application/json' is allowed"),
    (b'{"question": NaN, "steps": ["a"]}', "application/json", "question: expected text, or a list of content parts"),
    (b'{"question": "\\ud800", "steps": ["a"]}', "application/json", "half of a surrogate pair"),
    (b'{"question": "\xff", "steps": ["a"]}', "application/json", "not JSON in UTF-8"),
    (b"[" * 100_000, "application/json", "nested too deeply"),
]

# Body of POST /get_reward, a part of the message.
BAD_REWARDS = [
    (
        {"query": ["a"], "images": [["data:,"]]},
        "this route takes texts only. Send questions with images to /v1/prm/score",
    ),
    ({"query": "text"}, 'query: input should be a valid list, found the text "text"'),
    ({"query": []}, "query: list should have at least 1 item"),
    ({"query": ["a", "b"], "prompts": ["a"]}, "expected one prompt per query, found 1 prompts for 2 queries"),
    ({"query": ["no tag here"]}, "no step tag (▁ки) in 'no tag here'"),
    ({"query": ["b c"], "prompts": ["a"]}, "does not begin with its prompt"),
    ({}, "query: is missing"),
]
