"""The HTML report: what is in the page, and what a real browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import subprocess
from html.parser import HTMLParser

import pytest
from browser import REMEDY, browser

from vllm_prm.cli import main
from vllm_prm.errors import RequestError
from vllm_prm.evaluate import load_benchmark
from vllm_prm.report import ReportRow, benchmark_rows, write_report
from vllm_prm.scores import StepScores

BROWSER = browser()
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"no browser: {REMEDY}")

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">&amp; ' \""

ROWS = [
    ReportRow("How many eggs?", ["a", "b", "c"], [0.9, 0.8, 0.7], "fine"),
    ReportRow("How many pens?", ["a", "bad step"], [0.9, 0.2], "late", wrong=[1]),
    ReportRow("How many books?", ["bad", "b", "c", "d"], StepScores((0.1, 0.9, 0.4, 0.6)), "early", wrong=[2]),
    ReportRow(HOSTILE, [HOSTILE, "b"], RequestError(HOSTILE), HOSTILE, tags=[HOSTILE]),
    ReportRow("How many eggs left?", ["a"], [0.7], "short", tags=["answer 7"]),
]


class Page(HTMLParser):
    """The solutions of a page in order, its texts, and every start tag."""

    def __init__(self, html):
        super().__init__()
        self.solutions, self.tags, self.in_script = [], [], False
        self._texts = []
        self.feed(html)
        self.text = "".join(self._texts)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.in_script = tag in ("script", "style")
        if tag == "details":
            self.solutions.append(attributes)

    def handle_endtag(self, tag):
        self.in_script = False

    def handle_data(self, data):
        if not self.in_script:
            self._texts.append(data)

    def shown(self):
        return [int(tag["data-index"]) for tag in self.solutions if "hidden" not in tag]


@pytest.fixture
def report(tmp_path):
    return write_report(tmp_path / "report.html", ROWS, title="Errors & <more>", subtitle="a model")


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """A function: the page as Chromium shows it, and what it wrote on its console."""
    profile = tmp_path_factory.mktemp("profile")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]

    def run(page, address=""):
        command = [BROWSER, *flags, f"--user-data-dir={profile}", "--dump-dom", f"{page.as_uri()}{address}"]
        environment = {**os.environ, "HOME": str(profile)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
        return Page(done.stdout), [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


def test_everything_is_in_the_page(report):
    page = Page(report.read_text(encoding="utf-8"))
    assert page.shown() == [0, 1, 2, 3, 4]
    for text in ("Errors & <more>", "a model", "How many eggs?", "bad step", "0.200", "first error: step 2", HOSTILE):
        assert text in page.text
    assert [tag["data-error"] for tag in page.solutions] == ["", "1", "0", "", ""]
    assert [float(tag["data-score"] or "nan") for tag in page.solutions][:3] == [0.7, 0.2, 0.1]
    assert page.text.count("labelled wrong") == 2
    assert "labelled: step 3" in page.text  # the row whose first low step is another than the labelled one
    assert page.text.count("labelled: ") == 1


def test_the_summary_counts(report):
    text = " ".join(Page(report.read_text(encoding="utf-8")).text.split())
    for fact in ("solutions5", "steps12", "mean min0.425", "with a step below 0.52 (50.0 %)", "not scored1"):
        assert fact in text
    assert "first error as labelled1 (50.0 %)" in text


def test_only_scores_and_labels_together_can_disagree(tmp_path):
    rows = [
        ReportRow("q", ["a"], [0.1]),  # an error, but no labels
        ReportRow("q", ["a"], RequestError("too long"), wrong=[0]),  # a label, but no scores
        ReportRow("q", ["a", "b"], [0.1, 0.1], wrong=[0, 1]),  # the first error is as labelled
        ReportRow("q", ["a"], [0.1], wrong=[]),  # labelled right
        ReportRow("q", ["a"], [0.9], wrong=[0]),
    ]
    page = Page(write_report(tmp_path / "a.html", rows).read_text(encoding="utf-8"))
    assert [tag["data-missed"] for tag in page.solutions] == ["0", "0", "0", "1", "1"]
    assert page.text.count("labelled: no error") == page.text.count("labelled: step 1") == 1


def test_it_needs_nothing_else_and_lets_nothing_else_run(report):
    html = report.read_text(encoding="utf-8")
    page = Page(html)
    assert not [(tag, a) for tag, a in page.tags if {"src", "href"} & a.keys() or tag in ("link", "img", "iframe")]
    assert not re.search(r"url\(|@import", html)
    assert not [(tag, name) for tag, a in page.tags for name in a if name.startswith("on")]
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_controls_have_labels_and_the_page_a_language(report):
    html = report.read_text(encoding="utf-8")
    assert '<html lang="en">' in html
    for control in re.findall(r"<(?:select|input) [^>]*>", html):
        assert re.search(rf"<label[^>]*>[^<]+{re.escape(control)}", html), control
    ids = re.findall(r' id="(\w+)"', html)
    assert len(set(ids)) == len(ids)


def test_the_threshold_and_the_aggregation_can_be_chosen(tmp_path):
    page = Page(write_report(tmp_path / "a.html", ROWS, aggregation="last", threshold=0.75).read_text())
    assert [tag["data-error"] for tag in page.solutions] == ["2", "1", "0", "", "0"]
    assert page.solutions[2]["data-score"] == "0.6"
    assert "last per solution" in page.text


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("aggregation", ["min", "sum_log"])
def test_extremes(tmp_path, aggregation, threshold):
    rows = [ReportRow("q", ["a", "b"], [0.0, 1.0]), ReportRow("q", ["a"], [0.0]), ReportRow("q\ud800", ["\x00"], [1.0])]
    for chosen in (rows, rows[:1], []):
        path = write_report(tmp_path / "a.html", chosen, aggregation=aggregation, threshold=threshold)
        assert len(Page(path.read_text(encoding="utf-8")).solutions) == len(chosen)


def test_what_is_refused(tmp_path):
    with pytest.raises(RequestError, match="2 steps and 1 scores"):
        ReportRow("q", ["a", "b"], [0.5])
    with pytest.raises(RequestError, match="no aggregation 'median'"):
        write_report(tmp_path / "a.html", ROWS, aggregation="median")
    assert not (tmp_path / "a.html").exists()


def test_rows_of_a_benchmark(tmp_path):
    path = tmp_path / "gsm8k.jsonl"
    path.write_text('{"id": "gsm8k-0", "problem": "q", "steps": ["a", "b"], "label": 1}\n')
    benchmark = load_benchmark(path)
    (row,) = benchmark_rows(benchmark, [[0.9, 0.1]])
    assert (row.name, row.wrong, row.tags) == ("gsm8k-0", [1], ["gsm8k"])
    with pytest.raises(RequestError, match="0 scores for 1 solutions"):
        benchmark_rows(benchmark, [])
    path.write_text('{"question": "q", "candidates": [{"steps": ["a"], "answer": "7", "correct": true}]}\n')
    (row,) = benchmark_rows(load_benchmark(path), [[0.9]])
    assert (row.wrong, row.tags) == (None, ["right", "answer 7"])


def test_labels_show_what_the_scores_are_worth(tmp_path):
    """Five labelled steps in three bins of scores; a step without a label, and one without a score, count nowhere."""
    rows = [
        ReportRow("q", ["a", "b", "c"], [0.95, 0.95, 0.05], wrong=[1], labels=[True, False, None]),
        ReportRow("q", ["a", "b"], [0.2, 0.2], wrong=[0], labels=[False, True]),
        ReportRow("q", ["a"], [0.4], labels=[False]),
        ReportRow("q", ["a"], RequestError("too long"), wrong=[], labels=[True]),
        ReportRow("q", ["a"], [0.5]),
    ]
    html = write_report(tmp_path / "a.html", rows).read_text(encoding="utf-8")
    text = " ".join(Page(html).text.split())
    assert "steps as labelled60.0 %" in text
    assert "ROC AUC of steps50.0 %" in text  # 3 of 6 pairs: two won, two tied
    assert "first error as labelled1 (50.0 %)" in text  # step 3 of the first row has no label, so it is no false alarm
    assert "Expected calibration error 38.0 % over 10 bins, 5 labelled steps." in text  # (2 x 0.45 + 2 x 0.3 + 0.4) / 5
    titles = re.findall(r"<title>([^<]*)</title>", html)
    assert titles[1:] == [
        "0.2 to 0.3: 2 steps, mean score 0.200, 50.0 % right",
        "0.4 to 0.5: 1 steps, mean score 0.400, 0.0 % right",
        "0.9 to 1: 2 steps, mean score 0.950, 50.0 % right",
    ]
    heights = [float(height) for height in re.findall(r'class="bar" [^>]* height="([\d.]+)"', html)]
    assert heights == [80.0, 0.0, 80.0]  # of 160 for all steps right
    assert text.count("labelled wrong") == 3


def test_without_labels_there_is_no_reliability_plot(tmp_path):
    for scores, labels in (([0.5], None), ([0.5], [None]), ([1.5], [True]), (RequestError("too long"), [True])):
        page = write_report(tmp_path / "a.html", [ReportRow("q", ["a"], scores, labels=labels)])
        assert "<svg" not in page.read_text(encoding="utf-8")
    with pytest.raises(RequestError, match="1 steps and 2 labels"):
        ReportRow("q", ["a"], [0.5], labels=[True, False])


# ---- in a browser


@needs_browser
def test_the_reliability_plot_is_within_the_policy(browse, tmp_path):
    row = ReportRow("q", ["a", "b"], [0.9, 0.2], labels=[True, False])
    page, console = browse(write_report(tmp_path / "a.html", [row]))
    assert console == []
    assert [tag for tag, _ in page.tags].count("svg") == 1


@needs_browser
@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("#sort=score", [2, 1, 0, 4, 3]),  # what has no score stands last
        ("#sort=score&order=desc", [0, 4, 1, 2, 3]),  # ties in the order given
        ("#sort=error", [2, 1, 0, 3, 4]),
        ("#show=clean&sort=length", [4, 0]),
        ("#show=missed", [2]),
        ("#q=EGGS%20many", [0, 4]),
        ("#q=nothing%20has%20this", []),
        ("#sort=nonsense", [0, 1, 2, 3, 4]),
    ],
)
def test_sorting_and_filtering(browse, report, address, shown):
    page, console = browse(report, address)
    assert page.shown() == shown
    assert console == []
    counted = "5 solutions" if len(shown) == 5 else f"{len(shown)} of 5 solutions"
    assert counted in page.text


@needs_browser
def test_a_hostile_text_stays_text(browse, report):
    page, console = browse(report)
    assert console == []
    assert "taken" not in page.text.replace(HOSTILE, "")
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in page.tags]


@needs_browser
def test_another_script_does_not_run_and_is_noticed(browse, report):
    """The policy is a second lock behind the escaping; and the console checks above can fail."""
    html = report.read_text(encoding="utf-8")
    report.write_text(html.replace("</main>", "<script>document.title = 'taken'</script></main>"), encoding="utf-8")
    page, console = browse(report)
    assert "taken" not in page.text.replace(HOSTILE, "")
    assert "Content Security Policy" in "".join(console)


@needs_browser
def test_a_thousand_solutions(browse, tmp_path):
    rng = random.Random(0)
    rows = [
        ReportRow(f"question {i}", [f"step {j} " * 20 for j in range(13)], [rng.random() for _ in range(13)])
        for i in range(1000)
    ]
    page, console = browse(write_report(tmp_path / "a.html", rows), "#sort=score&order=desc")
    assert console == []
    lowest = [min(row.step_scores) for row in rows]
    assert page.shown() == sorted(range(1000), key=lambda i: -lowest[i])


def test_images_of_a_question(tmp_path):
    """Those in the page are shown, by leave of its policy; no other is asked for; nobody's address becomes HTML."""
    png = "data:image/png;base64,iVBORw0KGgo="
    urls = [png, "https://example.com/a.png", 'data:image/png;base64,"><b>', "data:image/svg+xml;base64,PHN2Zz4="]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    question = [*parts, {"type": "text", "text": HOSTILE}]
    html = write_report(tmp_path / "with.html", [*ROWS, ReportRow(question, ["a"], [0.5], "seen")]).read_text()
    page = Page(html)
    assert [attributes["src"] for tag, attributes in page.tags if tag == "img"] == [png]
    assert "image 2: https://example.com/a.png" in page.text
    assert "image 3" in page.text
    assert "image 4" in page.text
    assert "; img-src data:" in html.split("</head>")[0]
    without = write_report(tmp_path / "without.html", ROWS).read_text()
    assert "img-src" not in without


def test_lines_with_images(tmp_path):
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    question = [part, {"type": "text", "text": "How many?"}]
    lines = [{"question": question, "steps": ["a"], "step_scores": [0.5]}, {"question": question, "error": "not today"}]
    (tmp_path / "scored.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["report", str(tmp_path / "scored.jsonl"), "-o", str(tmp_path / "page.html")]) == 1
    text = Page((tmp_path / "page.html").read_text()).text
    assert text.count("image 1: https://example.com/a.png") == 2
    assert text.count("How many?") == 4  # each in its summary and below it
    assert "not today" in text
