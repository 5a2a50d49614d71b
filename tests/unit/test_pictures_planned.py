"""Questions with images before any engine: their parts, their prompts, and where positions go."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import vocabularies
from PIL import Image

from vllm_prm import RequestError, load_recipe
from vllm_prm.client.packing import packed
from vllm_prm.engine.serve.pictures import Pictures
from vllm_prm.prompts import Scoring, SeenQuestion
from vllm_prm.prompts.pictures import between, expanded_positions, stripped_content
from vllm_prm.questions import checked_question, image_urls, question_key, question_text
from vllm_prm.recipes import bind

PARTS_CHAT = vocabularies.QWEN_CHAT.replace(
    "{{ message.content }}",
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}{% endif %}",
)
RECIPE = {
    "name": "seeing",
    "step_tag": "<extra_0>",
    "scoring_tokens": {"good": {"piece": "+", "weight": 1.0}, "bad": {"piece": "-", "weight": 0.0}},
}


def words(text):
    return {"type": "text", "text": text}


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


def test_texts_alone_are_a_text():
    assert checked_question([words("a"), words("b")]) == "a\nb"
    assert checked_question("a") == "a"


def test_what_is_asked_of_a_question():
    question = checked_question((words("a"), image("https://x/y"), words("b")))
    assert question_text(question) == "a\nb"
    assert image_urls(question) == ["https://x/y"]
    assert question_key(question) == question_key([words("a"), image("https://x/y"), words("b")])
    assert question_key(question) != question_key([words("a"), image("https://x/z"), words("b")])


def test_an_image_of_this_process():
    part = {"type": "image_pil", "image_pil": Image.new("RGB", (2, 2))}
    assert checked_question([part], pil=True) == [part]
    assert image_urls([part]) == [None]
    with pytest.raises(RequestError, match="only PRM takes"):
        checked_question([part])
    with pytest.raises(RequestError, match="expected a PIL image"):
        checked_question([{"type": "image_pil", "image_pil": "a.png"}], pil=True)


@pytest.mark.parametrize("field", ["uuid", "detail", "image_embeds"])
def test_no_part_names_what_it_is_known_by(field):
    """vLLM would take a uuid for the image's hash, and answer another image of that uuid from its cache."""
    with pytest.raises(RequestError, match="no other"):
        checked_question([{**image("data:,"), field: "a"}])


def test_a_key_of_an_image_in_memory_is_the_object():
    one, two = ([{"type": "image_pil", "image_pil": Image.new("RGB", (2, 2))}] for _ in range(2))
    assert question_key(one) != question_key(two)


def test_text_joins_the_text_beside_it():
    parts = [words("b"), {"type": "image"}, words("c")]
    assert between("a", parts, "d") == [words("ab"), {"type": "image"}, words("cd")]
    assert between("", [{"type": "image"}], "") == [{"type": "image"}]
    assert between("a", "b", "c") == "abc"
    assert stripped_content([words(" a "), {"type": "image"}, words(" b ")]) == [
        words("a "),
        {"type": "image"},
        words(" b"),
    ]


@pytest.mark.parametrize("kind", ["chat", "turns"])
def test_a_chat_template_writes_the_images(kind):
    """The prompt is that of the same question with the placeholder in its text."""
    recipe = bind(
        load_recipe({**RECIPE, "prompt": {"kind": kind, "question": "Q: {question}\n", "strip": "all"}}),
        vocabularies.qwen25_with({"<image>": 151655}, PARTS_CHAT),
    )
    seen = SeenQuestion([words(" Look "), {"type": "image"}, {"type": "image"}, words("so. ")], {"images": 2})
    scoring, as_text = Scoring(seen, ["a", "b"], recipe), Scoring("Look <image><image>so.", ["a", "b"], recipe)
    assert scoring.media == {"images": 2}
    assert scoring.prompts == as_text.prompts
    assert scoring.prompts[0].token_ids.count(151655) == 2
    assert as_text.media is None


def test_images_that_nobody_looked_at_are_refused():
    recipe = bind(load_recipe(RECIPE), vocabularies.qwen25())
    with pytest.raises(RequestError, match="a server that only completes text takes text"):
        Scoring([words("a"), image("https://x/y")], ["a"], recipe)


IMAGE, ITS = 99, 98  # a placeholder, and the tokens that come in its place


@pytest.mark.parametrize(
    ("short", "whole", "images", "expected"),
    [
        ([1, IMAGE, 2, 3, 4, 5], [1, ITS, ITS, ITS, 2, 3, 4, 5], [(1, 4)], [5, 7]),
        ([1, IMAGE, 2, 3, 4, 5], [1, 2, 3, 4, 5], [(1, 1)], [2, 4]),
        ([1, IMAGE, 6, IMAGE, 3, 4, 5], [1, ITS, ITS, 6, ITS, ITS, 3, 4, 5], [(1, 3), (4, 6)], [6, 8]),
        ([1, 3, 4, 5], [ITS, ITS, 1, 3, 4, 5], [(0, 2)], [3, 5]),  # put before the prompt
        ([1, 91, 92, 3, 4, 5], [1, ITS, 93, 3, 4, 5], [(1, 2)], [3, 5]),  # ">" and a newline were one token
        ([1, IMAGE, 2, 3, 4, 5], [1, ITS, 2, 3, 4, 6], [(1, 2)], None),  # another end
        ([1, IMAGE, 2, 3, 4, 5], [1, ITS, 7, 8, 3, 4, 5], [(1, 2)], None),  # other tokens behind the image
        ([1, 2, 6, IMAGE, 3, 4, 5], [6, ITS, ITS, 3, 4, 5], [(1, 3)], None),  # the beginning is gone
        ([1, 6, 3, IMAGE, 4, 5], [1, 6, 3, ITS, ITS, 4, 5], [(3, 5)], None),  # an image among the steps
    ],
)
def test_positions_after_the_images(short, whole, images, expected):
    positions = [short.index(3), short.index(5)]
    found = expanded_positions(short, positions, whole, images)
    assert found == expected
    assert found is None or [whole[at] for at in found] == [3, 5]


def test_candidates_of_a_question_with_images_share_a_request_with_no_other():
    """So that a data URL, however long, is sent once for all of them."""
    one, two = ([image("data:image/png;base64," + letter * 70_000)] for letter in "AB")
    asked = [(one, ["a"]), ("q", ["a"]), (one, ["b"]), ("q", ["b"]), (two, ["a"]), (list(one), ["c"])]
    packs = packed(dict(enumerate(asked)), 16)
    assert sorted(map(sorted, packs)) == [[0, 2, 5], [1, 3], [4]]


def engine(runner="pooling", sees=True):
    return SimpleNamespace(
        model_config=SimpleNamespace(runner_type=runner, is_multimodal_model=sees, model="m", hf_config=None)
    )


JUDGE = {"kind": "passes", "tag": "<extra_0>", "passes": ["{tag}"]}


@pytest.mark.parametrize(
    ("renderer", "prompt", "says"),
    [
        (engine("generate"), {}, "this engine generates text"),
        (engine(sees=False), {}, "m takes text only"),
        (engine(), JUDGE, "recipe 'seeing' asks the model about each step"),
    ],
)
def test_engines_and_recipes_that_take_no_images_say_so(renderer, prompt, says):
    recipe = bind(load_recipe({**RECIPE, "prompt": prompt} if prompt else RECIPE), vocabularies.qwen25())
    with pytest.raises(RequestError, match=says):
        Pictures(renderer, lambda: recipe).see([image("https://x/y")])
