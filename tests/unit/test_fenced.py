"""The comparison by which the pages' outputs are checked fails when a number, a name or a sign differs."""

from __future__ import annotations

import pytest
from fenced import blocks, commands, difference

SHOWN = """{"id":"prm-b085173a4d782794","object":"list","created":1795392399,"data":[{"index":0,
"step_scores":[0.9652029815350909,1.1827269791928309e-05],"first_error":1}],"usage":{"prompt_tokens":37, ...}}"""
PRINTED = (
    '{"id":"prm-965236cb33b02369","object":"list","created":1795566205,"data":[{"index":0,'
    '"step_scores":[0.9652029775313054,1.182724723348976e-05],"first_error":1}],'
    '"usage":{"prompt_tokens":37,"total_tokens":37}}'
)


def test_ids_times_line_breaks_and_last_digits_may_differ():
    assert difference(SHOWN, PRINTED) is None
    assert difference(PRINTED, PRINTED) is None


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("0.9652029", "0.9654029"),
        ("1.182724723348976e-05", "2.182724723348976e-05"),  # both below the absolute tolerance
        ("1.182724723348976e-05", "0.0"),
        ('"first_error":1', '"first_error":2'),
        ('"first_error":1', '"first_error":1.0'),
        ('"first_error":1', '"first_error":null'),
        ('"prompt_tokens":37', '"prompt_tokens":38'),
        ("step_scores", "stepscores"),
        ('"object":"list",', ""),
        ('"index":0,', '"index":0,"object":"prm.score",'),
        ("[0.9652029775313054", "[-0.9652029775313054"),
        ('"prm-', '"embd-'),
        ("}}", "}"),
        ("}],", "}]],"),
    ],
)
def test_anything_else_may_not(text, instead):
    assert text in PRINTED
    message = difference(SHOWN, PRINTED.replace(text, instead, 1))
    assert message is not None
    assert "and this is printed" in message


def test_the_message_ends_at_the_first_difference():
    message = difference("a 0.5 c d", "a 0.6 c d")
    assert message == "the page shows\n  a >>>0.5<<<\nand this is printed:\na 0.6 c d"


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a ... d", "a b c d", True),
        ("a ... d", "a d", True),
        ("a ... d", "a b c d e", False),
        ("a ... c ... f", "a b c d e f", True),
        ("a ... c ... f", "a b d e f", False),
        ("a ... b ... c", "a c b", False),  # in this order
        ("a ... a", "a", False),  # one word is not two
        ("...", "anything", True),
        ("a", "a a", False),
        ("", "a", False),
        ("a ...", "b a", False),
        ("a b", "a ... b", False),  # only the page may leave something out
        ("0.0000", "0.0001", False),
        ("server ready after 74 s", "server ready after 9 s", True),
        ("--port 60453 --task embed", "--port 1 --task embed", True),
        ("--port 60453 --task embed", "--port 1 --task reward", False),
    ],
)
def test_what_is_left_out_matches_anything(shown, printed, same):
    assert (difference(shown, printed) is None) == same


def test_blocks_and_commands_are_read():
    text = "a\n```\n$ one -d 'x\n  y'\n1\n2\n$ two  # both\n$ three\n3\n```\nb `c`\n```python\nprint()\n```\n"
    console, python = blocks(text)
    assert (python.language, python.text, python.glued) == ("python", "print()\n", False)
    assert [block.glued for block in blocks(f"{text}```\n1\n```\n\n```\n2\n```\n")] == [False, False, True, False]
    assert console.first_line == "$ one -d 'x"
    assert commands(console.text) == [("one -d 'x\n  y'\n", "1\n2\n"), ("two  # both\n", ""), ("three\n", "3\n")]


@pytest.mark.parametrize("text", ["```\na\n", "- a\n  ```\n  b\n  ```\n", "~~~\na\n~~~\n", "```{.sh}\na\n```\n"])
def test_a_block_that_would_be_overlooked(text):
    with pytest.raises(ValueError, match="fences for"):
        blocks(text)
