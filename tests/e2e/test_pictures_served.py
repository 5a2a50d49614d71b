"""Questions with images over HTTP: the same small Qwen2.5-VL on a server, by its routes, the clients and the CLI."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
import seeing
from benchmark_files import write
from browser import REMEDY, browser
from conftest import ROOT
from opened_page import opened
from oracle import TOLERANCE
from PIL import Image
from seeing import SIZES, STEPS, data_url, part, picture, png, words
from server import serving

from vllm_prm import PRMClient, RequestError
from vllm_prm.cli import main

MOST_PIXELS = 1_000_000


class Pictures(BaseHTTPRequestHandler):
    """Gives a picture for every path, and counts."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        if self.path == "/missing.png":
            self.send_error(404)
            return
        body = png(picture(5, SIZES[2]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def host():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(base URL, oracle, the folder whose files may be read)"""
    folder = tmp_path_factory.mktemp("seeing")
    model = seeing.save_qwen(folder / "qwen")
    (folder / "qwen" / "prm.json").write_text(json.dumps(seeing.TURNS))
    allowed = folder / "allowed"
    allowed.mkdir()
    options = ["--task", "embed", "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"]
    options += ["--limit-mm-per-prompt", '{"image": 4}', "--allowed-local-media-path", str(allowed)]
    options += ["--allowed-media-domains", "127.0.0.1", "--block-size", "32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_PLUGINS", "prm")
        patch.setenv("VLLM_MAX_IMAGE_PIXELS", str(MOST_PIXELS))
        with serving(folder / "log", model, *options, script=ROOT / "tests" / "seeing_server.py") as url:
            yield url, seeing.QwenOracle(model), allowed


@pytest.fixture
def client(served):
    with PRMClient(served[0]) as made:
        yield made


def asked(*images: Image.Image | str) -> list:
    return [words("Look:\n"), *(part(image) for image in images), words("How many squares are there?")]


def sent(*seeds: int) -> list:
    return asked(*(data_url(picture(seed, SIZES[seed % len(SIZES)])) for seed in seeds))


def right(oracle, *seeds: int, steps=STEPS):
    return oracle.scores(asked(*(picture(seed, SIZES[seed % len(SIZES)]) for seed in seeds)), steps)[1]


def test_no_image_one_and_three_in_a_batch(served, client):
    oracle = served[1]
    text = "What is 1 + 1?"
    found = client.score_batch([(sent(1), STEPS), (text, STEPS), (sent(2, 3, 4), STEPS), (sent(6), STEPS[:1])])
    expected = [
        right(oracle, 1),
        oracle.scores(text, STEPS)[1],
        right(oracle, 2, 3, 4),
        right(oracle, 6, steps=STEPS[:1]),
    ]
    for scores, numbers in zip(found, expected, strict=True):
        assert np.abs(np.array(scores.step_scores) - numbers).max() < TOLERANCE
    again = client.score(sent(2, 3, 4), STEPS)
    assert again.num_cached_tokens == (again.num_prompt_tokens - 1) // 32 * 32
    assert again.step_scores == found[2].step_scores


def test_another_image_behind_the_same_tokens(served, client):
    one, two = client.score(sent(30), STEPS), client.score(sent(34), STEPS)  # of one size
    assert one.num_prompt_tokens == two.num_prompt_tokens
    assert two.num_cached_tokens <= 64, "only what stands before the image"
    for scores, seed in ((one, 30), (two, 34)):
        assert np.abs(np.array(scores.step_scores) - right(served[1], seed)).max() < TOLERANCE


def test_an_address_is_fetched_once_for_all_candidates(served, host):
    Pictures.asked.clear()
    question = asked(f"http://127.0.0.1:{host}/one.png")
    body = {"question": question, "candidates": [STEPS, STEPS[:1], [*STEPS, "So it is."]]}
    answer = httpx.post(f"{served[0]}/v1/prm/score", json=body, timeout=60).json()
    assert Pictures.asked == ["/one.png"]
    for entry, steps in zip(answer["data"], body["candidates"], strict=True):
        numbers = served[1].scores(asked(picture(5, SIZES[2])), steps)[1]
        assert np.abs(np.array(entry["step_scores"]) - numbers).max() < TOLERANCE


def test_a_local_file(served, client):
    (served[2] / "a.png").write_bytes(png(picture(9, SIZES[1])))
    found = client.score(asked((served[2] / "a.png").as_uri()), STEPS)
    assert np.abs(np.array(found.step_scores) - right(served[1], 9)).max() < TOLERANCE


def hostile(allowed: Path, host: int) -> dict[str, tuple[str, str]]:
    """By what it is: the address, and what the refusal says."""
    huge = Image.new("L", (2000, 2000))  # 4 kB as a file
    outside = allowed.parent / "secret.png"
    outside.write_bytes(png(picture(0)))
    (allowed / "out.png").unlink(missing_ok=True)
    (allowed / "out.png").symlink_to(outside)
    return {
        "huge": (data_url(huge), str(MOST_PIXELS)),
        "broken": ("data:image/png;base64," + base64.b64encode(png(picture(0))[:200]).decode(), "image"),
        "no image": ("data:image/png;base64,aGVsbG8=", "image"),
        "no base64": ("data:image/png;base64,!!", "image"),
        "a forbidden host": (f"http://localhost:{host}/forbidden.png", "allowed domains"),
        "a file outside": (outside.as_uri(), "--allowed-local-media-path"),
        "a link to outside": ((allowed / "out.png").as_uri(), "--allowed-local-media-path"),
        "a way out": (f"file://{allowed}/../secret.png", "--allowed-local-media-path"),
        "no such file": (f"file://{allowed}/none.png", "No such file"),
        "no such page": (f"http://127.0.0.1:{host}/missing.png", "404"),
        "a scheme": ("ftp://127.0.0.1/a.png", "HTTP, data or file"),
        "too long a stripe": (data_url(picture(0, (1000, 2))), "aspect ratio"),
    }


def test_hostile_media_are_refused_one_by_one(served, host):
    """Each with 400 by itself, and in a batch in its place, while the others are answered."""
    Pictures.asked.clear()
    url = f"{served[0]}/v1/prm/score"
    cases = hostile(served[2], host)
    for name, (address, says) in cases.items():
        answer = httpx.post(url, json={"question": asked(address), "steps": STEPS}, timeout=60)
        assert answer.status_code == 400, (name, answer.text[:300])
        assert says in answer.json()["error"]["message"], (name, answer.text[:300])
    inputs = [{"question": asked(address), "steps": STEPS} for address, _ in cases.values()]
    good = {"question": sent(1), "steps": STEPS}
    entries = httpx.post(url, json={"inputs": [good, *inputs, good]}, timeout=60).json()["data"]
    assert [entry["object"] for entry in entries] == ["prm.score", *["error"] * len(cases), "prm.score"]
    assert all(entry["error"]["code"] == 400 for entry in entries[1:-1])
    assert np.abs(np.array(entries[-1]["step_scores"]) - right(served[1], 1)).max() < TOLERANCE
    assert set(Pictures.asked) == {"/missing.png"}, "something was fetched that vLLM would not fetch"


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ([], "empty list"),
        ([{"type": "image_url", "image_url": "http://127.0.0.1/a.png"}], '{"url": "..."}'),
        ([{"type": "image_pil", "image_pil": "x"}], "PIL"),
        ([{"type": "image_url", "image_url": {"url": "data:,"}, "uuid": "a"}], "no other"),
        ([{"type": "video_url", "video_url": {"url": "data:,"}}], "video_url"),
        ([words("a"), 3], "part 2"),
        (3, "list of content parts"),
    ],
)
def test_parts_that_are_none(served, question, says):
    answer = httpx.post(f"{served[0]}/v1/prm/score", json={"question": question, "steps": STEPS})
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]


def test_more_images_than_the_server_takes_and_a_prompt_too_long(client):
    with pytest.raises(RequestError, match="4"):
        client.score(sent(1, 2, 3, 4, 5), STEPS)
    length = client.score(sent(2), ["a"]).num_prompt_tokens
    longest = "a" * (1 + 1024 + 15 - length)  # 15 tokens more once the image has its 16; each letter is one
    with pytest.raises(RequestError, match="1039 tokens, 16 of them for its 1 images, and the model takes 1024"):
        client.score(sent(46), [longest])
    # Refused before vLLM noted it as sent: the engine, which never saw this picture, gets it now.
    assert client.score(sent(46), [longest[15:]]).num_prompt_tokens == 1024
    assert len(client.score(sent(1), STEPS)) == len(STEPS)


def test_what_the_model_reads(served):
    body = {"question": sent(2), "steps": STEPS}
    (prompt,) = httpx.post(f"{served[0]}/v1/prm/prompts", json=body).json()["prompts"]
    assert prompt["token_ids"] == served[1].scores(asked(picture(2, SIZES[2])), STEPS)[0]
    assert prompt["token_ids"].count(seeing.IMAGE_PAD) == 16
    assert [prompt["tokens"][place + 1] for place in prompt["positions"]] == ["+"] * len(STEPS)


def test_visualprocessbench(served, tmp_path, capsys):
    """Images that lie beside the file, from the command line to the figures."""
    (tmp_path / "images").mkdir()
    rows, expected = [], []
    for seed in (1, 2):
        (tmp_path / "images" / f"{seed}.png").write_bytes(png(picture(seed, SIZES[seed])))
        asked_of = [part(picture(seed, SIZES[seed])), words("How many squares are there?")]
        expected.append(served[1].scores(asked_of, STEPS)[1])
        ratings = [1 if score >= 0.5 else -1 for score in expected[-1]]
        response = {"steps": STEPS, "process_correctness": ratings}
        rows.append({"image": [f"images/{seed}.png"], "question": "How many squares are there?", "response": response})
    path, out_path = write(tmp_path / "test.jsonl", *rows), tmp_path / "scores.jsonl"
    assert main(["evaluate", str(path), "--server", served[0], "-q", "-o", str(out_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["overall"]["accuracy"] == 100
    for line, scores in zip(out_path.read_text().splitlines(), expected, strict=True):
        assert np.abs(np.array(json.loads(line)["step_scores"]) - scores).max() < TOLERANCE


@pytest.mark.skipif(browser() is None, reason=f"there is no browser: {REMEDY}")
def test_the_page_sends_images(served, host, tmp_path):
    """A file of the user's, which is shown, and an address, which only the server opens."""
    content = base64.b64encode(png(picture(1, SIZES[1]))).decode()
    one, other = part(picture(1, SIZES[1])), part(picture(5, SIZES[2]))
    scores = served[1].scores([one, other, words("How many squares are there?")], STEPS)[1]
    Pictures.asked.clear()
    with opened(tmp_path) as page:
        page.open(f"{served[0]}/prm")
        page.until("document.getElementById('model').textContent.includes('recipe')")
        page.get(
            f"""(() => {{
            const bytes = Uint8Array.from(atob("{content}"), (letter) => letter.charCodeAt(0));
            const chosen = new DataTransfer();
            chosen.items.add(new File([bytes], "a.png", {{ type: "image/png" }}));
            const input = document.getElementById("image-files");
            input.files = chosen.files;
            input.dispatchEvent(new Event("change"));
            }})()"""
        )
        page.until("document.querySelectorAll('#images img').length === 1")
        page.until(f"document.querySelector('#images img').naturalWidth === {SIZES[1][0]}")
        for address in ("http://127.0.0.1:1/wrong.png", f"http://127.0.0.1:{host}/page.png"):
            page.write("#image-url", address)
            page.click("#add-image")
        page.click("#images span:nth-child(2) button")
        assert f"image 2: http://127.0.0.1:{host}/page.png" in page.text()
        assert Pictures.asked == [], "the page opened the address"
        page.write("#question", "How many squares are there?")
        page.write("#solution-0", "\n".join(STEPS))
        page.click("#score")
        page.until("document.body.dataset.done")
        shown = page.get("Array.from(document.querySelectorAll('.steps .score'), (one) => one.textContent)")
        assert [float(score) for score in shown] == pytest.approx(list(scores), abs=6e-4)  # 3 digits are shown
        page.click("#link")
        page.until("location.hash.includes('&run')")
        assert "without the image files" in page.text()
        page.open(page.get("location.href"))
        page.until("document.getElementById('images').textContent.includes('/page.png')")
        assert page.complaints == []


def test_trainers_routes_take_texts_only(served):
    """Their requests have no place for images; the refusal says which route has."""
    images = {"images": [data_url(picture(1))]}
    for route, body in (
        ("get_reward", {"query": ["q"], **images}),
        ("remote_rm", {"prompt": [{"role": "user", "content": sent(1)}], "response": "\n".join(STEPS)}),
        ("worker_value_inference", {"input_str": "q", **images}),
    ):
        answer = httpx.post(f"{served[0]}/{route}", json=body)
        assert answer.status_code == 400
        assert "Send questions with images to /v1/prm/score" in answer.json()["error"]["message"]


def test_lines(served, tmp_path):
    lines = [{"question": sent(1), "steps": STEPS, "id": "a"}, {"question": asked("ftp://x/y"), "steps": STEPS}]
    lines += [{"question": "What is 1 + 1?", "steps": STEPS}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    score = ["score", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "--server", served[0]]
    assert main(score) == 1
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert found[0]["question"] == lines[0]["question"]
    assert np.abs(np.array(found[0]["step_scores"]) - right(served[1], 1)).max() < TOLERANCE
    assert "HTTP, data or file" in found[1]["error"]
    assert "step_scores" in found[2]
