"""The page /prm in a browser: what a person who pastes a question and solutions sees."""

from __future__ import annotations

from urllib.parse import urlencode

import httpx
import pytest
from browser import REMEDY, browser
from opened_page import opened
from score_requests import QUESTION, RIGHT, WRONG

pytestmark = pytest.mark.skipif(browser() is None, reason=f"there is no browser: {REMEDY}")
HOSTILE = "<img src=x onerror=alert(1)>"
NAMES = "Array.from(document.querySelectorAll('.solution .name'), (name) => name.textContent)"


@pytest.fixture(scope="module")
def browsed(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browsed):
    browsed.complaints.clear()
    yield browsed
    assert browsed.complaints == []


def address(url, *solutions, question=QUESTION, run=True):
    words = urlencode([("q", question), *(("s", "\n".join(steps)) for steps in solutions)])
    return f"{url}/prm#{words}{'&run' if run else ''}"


def scored(page):
    page.until("document.body.dataset.done")


def test_candidates_are_scored_and_ranked(page, tiny_prm_url):
    page.open(address(tiny_prm_url, WRONG, RIGHT))
    scored(page)
    assert page.get(NAMES) == ["Solution 2", "Solution 1"]
    body = {"question": QUESTION, "candidates": [WRONG, RIGHT]}
    answer = httpx.post(f"{tiny_prm_url}/v1/prm/score", json=body).raise_for_status().json()
    expected = [f"{score:.3f}" for index in (1, 0) for score in answer["data"][index]["step_scores"]]
    assert page.get("Array.from(document.querySelectorAll('.steps .score'), (one) => one.textContent)") == expected
    text = page.text()
    assert text.count("best") == 1
    assert f"first error: step {answer['data'][0]['first_error'] + 1}" in text
    assert page.get("document.querySelectorAll('.steps li.low').length") == sum(float(one) < 0.5 for one in expected)
    assert "recipe tiny-prm" in text
    assert not page.get("document.getElementById('key').checkVisibility()")  # this server has none


def test_what_the_model_reads_is_shown(page, tiny_prm_url):
    page.open(address(tiny_prm_url, RIGHT))
    scored(page)
    page.click(".reads summary")
    page.until("document.querySelectorAll('.prompt mark').length")
    assert page.get("Array.from(document.querySelectorAll('.prompt mark'), (one) => one.textContent)") == [" ки"] * len(
        RIGHT
    )
    assert QUESTION in page.get("document.querySelector('.prompt').textContent")


def test_typed_and_clicked(page, tiny_prm_url):
    page.open(f"{tiny_prm_url}/prm")
    page.until("document.getElementById('model').textContent.includes('recipe')")
    page.write("#question", QUESTION)
    page.write("#solution-0", "\n".join(WRONG))
    page.click("#add")
    page.write("#solution-1", f"{RIGHT[0]}\n{HOSTILE}")
    page.click("#add")  # stays empty
    page.click("#score")
    scored(page)
    text = page.text()
    assert "2 of 3 scored" in text
    assert "there is no step in ''" in text
    assert HOSTILE in text
    assert page.get("document.querySelectorAll('img').length") == 0
    page.click("#link")
    page.until("location.hash.includes('&run')")
    link = page.get("location.href")
    page.open(link)
    scored(page)
    assert "2 of 3 scored" in page.text()
