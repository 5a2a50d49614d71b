"""Benchmarks whose questions have images: how rows name them, which are read, and VisualProcessBench."""

from __future__ import annotations

import base64
import json

import pytest
from benchmark_files import write
from wire import expected, speaking

from vllm_prm.cli import main
from vllm_prm.errors import RequestError
from vllm_prm.evaluate import evaluate, load_benchmark, running, score_benchmark
from vllm_prm.evaluate.pictures import with_content
from vllm_prm.recipes import load_recipe
from vllm_prm.scorer import Scorer

# The beginnings by which the kinds are known; what follows is for vLLM to judge.
PICTURES = {
    "png": b"\x89PNG\r\n\x1a\n....",
    "jpeg": b"\xff\xd8\xff\xe0....",
    "gif": b"GIF89a....",
    "webp": b"RIFF....WEBPVP8 ",
    "bmp": b"BM....",
}
FAR = ["https://example.org/a.png", "data:image/png;base64,AAAA", "file:///a.png"]


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


def text(words):
    return {"type": "text", "text": words}


def data_url(kind):
    return f"data:image/{kind};base64,{base64.b64encode(PICTURES[kind]).decode()}"


def seen(ratings, question="How many?", **fields):
    """A VisualProcessBench row. ratings: (score, rating) pairs; steps are written as the scores they get."""
    response = {"steps": [str(score) for score, _ in ratings], "process_correctness": [rating for _, rating in ratings]}
    return {
        "question": question,
        "answer": "3",
        "response": response,
        "policy_model": "m",
        "data_source": "d",
        **fields,
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    for kind, content in PICTURES.items():
        (tmp_path / "data" / "images" / f"a.{kind}").write_bytes(content)
    (tmp_path / "secret.png").write_bytes(PICTURES["png"])
    (tmp_path / "data" / "out.png").symlink_to(tmp_path / "secret.png")
    return tmp_path / "data"


class Asked(Scorer):
    """Scores are the steps' texts; keeps what it was asked."""

    def __init__(self):
        self.batches = []

    @property
    def recipe(self):
        return load_recipe("visualprm")

    def score_batch(self, items, *, on_error="raise", progress=True):
        self.batches.append(list(items))
        return [expected(list(steps)) for _, steps in items]


ROWS = {
    "processbench": ("problem", {"steps": ["0.9"], "label": -1}),
    "best-of-n": (
        "question",
        {"candidates": [{"steps": ["0.9"], "correct": True}, {"steps": ["0.1"], "correct": False}]},
    ),
    "stepwise": ("prompt", {"completions": ["0.9"], "labels": [True]}),
    "visualprocessbench": ("question", {"response": {"steps": ["0.9"], "process_correctness": [1]}}),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("field", ["image", "images"])
def test_rows_with_images(folder, name, field):
    """In front of the question, by a path below the file's folder, whatever the form of the row."""
    question, row = ROWS[name]
    place = str(folder / "images" / "a.png")
    several = ["images/a.png", *FAR]
    benchmark = load_benchmark(
        write(
            folder / "a.jsonl",
            {question: "How many?", field: "images/a.png", **row},
            {question: "How many?", field: several, **row},
            {question: [text("Here: "), image("images/a.png"), text("How many?")], **row},
            {question: "How many?", field: [], **row},
        )
    )
    assert benchmark.format.name == name
    each = len(benchmark.solutions) // 4
    assert [asked for asked, _ in benchmark.solutions[::each]] == [
        [image(place), text("How many?")],
        [image(place), *map(image, FAR), text("How many?")],
        [text("Here: "), image(place), text("How many?")],
        "How many?",
    ]


@pytest.mark.parametrize("kind", PICTURES)
def test_a_file_becomes_a_data_url(folder, kind):
    asked = [text("Look"), *map(image, FAR), image(str(folder / "images" / f"a.{kind}"))]
    assert with_content(asked) == [*asked[:-1], image(data_url(kind))]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"image": "../secret.png"}, "the image '../secret.png' lies outside of"),
        ({"image": "out.png"}, "the image 'out.png' lies outside of"),  # a link
        ({"image": "/etc/passwd"}, "the image '/etc/passwd' lies outside of"),
        ({"question": [image("/etc/passwd"), text("q")]}, "the image '/etc/passwd' lies outside of"),
        ({"image": ["images/a.png", ""]}, 'an image is the text ""; expected a path or an address'),
        ({"image": [{"bytes": "x"}]}, "an image is an object of 1 field; expected a path or an address"),
        ({"image": "images/a.png", "images": []}, "images is a list of 0; expected one of the fields image and images"),
        ({"question": [{"type": "video_url", "video_url": {}}]}, "part 1 of question has the type"),
        ({"question": 3}, "question is the number 3; expected text"),
    ],
)
def test_rows_that_name_no_image_of_theirs(folder, fields, says):
    path = write(folder / "a.jsonl", {**seen([(0.9, 1)]), **fields})
    with pytest.raises(RequestError) as error:
        load_benchmark(path)
    assert "a.jsonl, line 1" in str(error.value)
    assert says in str(error.value)


def test_another_folder(folder):
    path = write(folder / "a.jsonl", seen([(0.9, 1)], image="a.png"))
    ((asked, _),) = load_benchmark(path, images=folder / "images").solutions
    assert asked[0] == image(str(folder / "images" / "a.png"))


def test_images_are_read_some_at_a_time_and_faults_stay_with_their_solutions(folder, monkeypatch):
    monkeypatch.setattr(running, "IMAGES_BATCH", 2)
    (folder / "images" / "words.png").write_text("words")
    names = ["a.png", "none.png", "a.gif", "words.png", "a.webp"]
    rows = [seen([(score, 1)], image=f"images/{name}") for score, name in enumerate(names)]
    benchmark, scorer = load_benchmark(write(folder / "a.jsonl", *rows)), Asked()
    results = score_benchmark(benchmark, scorer, progress=False)
    assert [[asked[0] for asked, _ in batch] for batch in scorer.batches] == [
        [image(data_url("png"))],
        [image(data_url("gif"))],
        [image(data_url("webp"))],
    ]
    assert [isinstance(result, RequestError) for result in results] == [False, True, False, True, False]
    assert "none.png: No such file" in str(results[1])
    assert "words.png is no image" in str(results[3])
    assert evaluate(benchmark, results).overall.unscored == 2


def test_visualprocessbench(folder):
    """Neutral steps are in neither F1, as its authors count, unless recipe or user say otherwise."""
    rows = [seen([(0.9, 1), (0.2, 0), (0.3, -1), (0.8, -1)], image="images/a.png"), seen([(0.4, 1), (0.6, 1)])]
    path = write(folder / "test.jsonl", *rows)
    scores = [(0.9, 0.2, 0.3, 0.8), (0.4, 0.6)]
    result = evaluate(load_benchmark(path), scores)
    assert (result.benchmark, result.neutral) == ("visualprocessbench", "skip")
    overall = result.overall
    assert (overall.steps, overall.good_steps, overall.accuracy) == (5, 60, 60)
    f1_good, f1_bad = 2 * 2 / (2 * 2 + 1 + 1), 2 * 1 / (2 * 1 + 1 + 1)
    assert overall.macro_f1 == pytest.approx(50 * (f1_good + f1_bad))
    assert (overall.first_error.num_error, overall.first_error.acc_error) == (1, 100)
    assert "macro F1" in result.table()
    bad = load_recipe({"base": "visualprm", "neutral": "bad"})
    assert evaluate(load_benchmark(path, recipe=bad), scores).overall.steps == 6
    assert evaluate(load_benchmark(path, recipe=bad, neutral="good"), scores).overall.good_steps == pytest.approx(
        400 / 6
    )
    example = load_benchmark(path).splits["test"][0]
    assert example.path.tags == ["m", "d"]


@pytest.mark.parametrize(
    ("ratings", "says"),
    [
        ([1], "line 1, response: process_correctness is a list of 1; expected a rating for each of 2 steps"),
        ([1, 2], "line 1, response: process_correctness[1] is the number 2; expected -1, 0, 1 or null"),
        ([1, True], "process_correctness[1] is the boolean true; expected -1, 0, 1 or null"),
    ],
)
def test_ratings_that_are_none(folder, ratings, says):
    row = seen([(0.9, 1), (0.8, 1)])
    row["response"]["process_correctness"] = ratings
    with pytest.raises(RequestError) as error:
        load_benchmark(write(folder / "a.jsonl", row))
    assert says in str(error.value)


def test_the_command_line_sends_images_and_keeps_their_paths(folder, tmp_path, capsys):
    rows = [seen([(0.9, 1), (0.1, -1)], image="a.png"), seen([(0.7, 1)], image="none.png"), seen([(0.6, 1)], "plain")]
    in_path, out_path = write(folder / "a.jsonl", *rows), tmp_path / "scores.jsonl"
    with speaking() as (url, questions):
        command = ["evaluate", str(in_path), "--images", str(folder / "images"), "--server", url, "-q", "--json"]
        assert main([*command, "-o", str(out_path)]) == 1
        first = json.loads(capsys.readouterr().out)
        sent = [question for question in questions if not str(question).startswith("/")]
        assert sorted(sent, key=str) == sorted([[image(data_url("png")), text("How many?")], "plain"], key=str)
        assert main([*command, "-o", str(out_path)]) == 1  # goes on after the last line: nothing is asked again
        assert json.loads(capsys.readouterr().out) == first
        assert [question for question in questions if not str(question).startswith("/")] == sent
    lines = [json.loads(line) for line in out_path.read_text().splitlines()]
    assert lines[0]["question"][0] == image(str(folder / "images" / "a.png"))
    assert lines[0]["step_scores"] == list(expected(["0.9", "0.1"]).step_scores)
    assert "none.png: No such file" in lines[1]["error"]
    assert (first["overall"]["unscored"], first["overall"]["solutions"]) == (1, 3)
