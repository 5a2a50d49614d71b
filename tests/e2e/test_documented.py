"""Every block of every page is run here, or named with the test that runs it or why none does."""

from __future__ import annotations

import re
import shutil

import httpx
import pytest
from checkpoints import real_tokenizer
from conftest import ROOT
from documentation import PAGES, SERVER, block_of, is_console, on, outputs, ran, run_console, run_python, text
from fenced import Block

from vllm_prm import PRMClient, load_recipe
from vllm_prm.prompts import Scoring
from vllm_prm.recipes import bind

# Pages whose blocks have a file of tests to themselves.
ELSEWHERE = {"README.md": "tests/e2e/test_readme.py", "docs/integrations.md": "tests/stacks/documented.py"}
PYTHON = {"docs/evaluate.md", "docs/http.md", "docs/python.md"}  # all Python blocks are run here, with their outputs

# Page, how a block begins: the test that runs it.
HERE = "tests/e2e/test_documented.py"
RUN_BY = {
    ("docs/evaluate.md", "vllm-prm evaluate"): HERE,
    ("docs/images.md", '{"question"'): "tests/unit/test_pages.py",
    ("docs/one-engine.md", "from vllm import LLM"): "tests/e2e/test_one_engine.py",
    ("docs/one-engine.md", "prm = PRMClient("): "tests/e2e/test_one_engine_served.py",
    ("docs/recipes.md", '{"base"'): "tests/unit/test_pages.py",
    ("docs/recipes.md", "$ vllm-prm recipes --new"): "tests/unit/test_cli_recipes.py",
    ("docs/recipes.md", "vllm-prm recipes --new"): "tests/unit/test_cli_recipes.py",
    ("docs/recipes.md", "$ vllm-prm recipes --try"): "tests/unit/test_cli_recipes.py",
    ("docs/recipes.md", '{"name"'): HERE,
    ("docs/recipes.md", "Problem: Two plus two?"): HERE,
    ("examples/tiny-prm/README.md", "Mia has 12 apples."): HERE,
}
# Page, how a block begins ("": all of its blocks): why it is not run. Words of commands are checked all the same, by
# tests/unit/test_pages.py and tests/contract/test_documented_flags.py.
PUBLISHED = "needs published weights of a billion parameters or more"
NOT_RUN = {
    ("CONTRIBUTING.md", "make test"): "these tests are what it runs",
    ("CONTRIBUTING.md", ".venv/bin/python -m pytest"): "these tests are what it runs",
    ("CONTRIBUTING.md", "vllm_prm/"): "a list of folders and no command; a test below looks whether they exist",
    ("benchmarks/README.md", "python benchmarks/suite.py"): "needs a GPU and published weights",
    ("docs/command-line.md", "vllm-prm score"): "the first line runs further down the page, the second loads weights",
    ("docs/gpu.md", "make gpu"): "needs a GPU; tests/e2e/test_gpu_program.py runs the program with small shapes",
    ("docs/how-it-works.md", "flowchart"): "a picture",
    ("docs/one-engine.md", "VLLM_PLUGINS=prm vllm serve examples"): "test_one_engine_served.py has a server like it, "
    "with an adapter besides",
    ("docs/one-engine.md", "VLLM_PLUGINS=prm vllm serve Qwen"): PUBLISHED,
    ("docs/recipes.md", "vllm serve ibm-granite"): PUBLISHED,
    ("docs/recipes.md", "vllm serve Qwen"): PUBLISHED,
    ("docs/reliability.md", ""): "hours of faults; the tests of that page run them in short",
    ("docs/scale.md", ""): "needs several GPUs, a router, Ray or Kubernetes; tests/e2e/test_ray.py runs the Ray block",
    ("docs/score-cache.md", "Score cache:"): "a line of the log; tests/e2e/test_cache_lifecycle.py looks for it",
    ("docs/serving.md", "vllm serve peiyi9979"): PUBLISHED,
    (
        "docs/serving.md",
        "vllm serve ./my-prm",
    ): "needs weights; tests/e2e/test_scores.py starts such engines",
    ("docs/serving.md", "vllm-prm doctor"): "tests/unit/test_cli_doctor.py and tests/e2e/test_endpoint.py run it",
    ("examples/tiny-generator/README.md", "Step 1: 0 + 2"): "what the model wrote when it was trained",
}


def named(table: dict, page: str, block: Block) -> list:
    return [key for key in table if key[0] == page and block.text.startswith(key[1])]


CONSOLE = [
    pytest.param(page, block, id=f"{page}: {block.first_line[2:30]}")
    for page in PAGES
    for block in on(page)
    if is_console(block) and page not in ELSEWHERE and not named({**RUN_BY, **NOT_RUN}, page, block)
]


@pytest.mark.parametrize("page", sorted(set(PAGES) - set(ELSEWHERE)))
def test_every_block_is_run_or_named(page):
    shown = set(outputs(page).values())
    for block in on(page):
        is_run = is_console(block) or (page in PYTHON and (block.language == "python" or block in shown))
        assert is_run or len(named({**RUN_BY, **NOT_RUN}, page, block)) == 1, (
            f"{page} has a block that no test runs and that no table here names: {block.first_line}"
        )


def test_what_is_named_is_there():
    for page, start in {**RUN_BY, **NOT_RUN}:
        assert not (ROOT / page).exists() or not start or block_of(page, start), (page, start)
    for page, test in [*ELSEWHERE.items(), *((page, test) for (page, _), test in RUN_BY.items())]:
        assert page.rpartition("/")[2] in (ROOT / test).read_text("utf-8"), f"{test} says nothing of {page}"
    assert all(len(reason.split()) > 1 for reason in NOT_RUN.values())


@pytest.mark.parametrize(("page", "block"), CONSOLE)
def test_commands(page, block, tiny_prm_url, tmp_path):
    run_console(block, tiny_prm_url, tmp_path)


def test_the_page_of_python(tiny_prm_url):
    names = run_python("docs/python.md", tiny_prm_url)
    names["prm"].close()


def test_the_rows_of_the_page_of_http(tiny_prm_url):
    body = {"question": "One and one?", "steps": ["1 + 1 = 2", "So 2."], "return": "logits"}
    entries = [
        httpx.post(f"{tiny_prm_url}/v1/prm/score", json={**body, **more}).json()["data"][0]
        for more in ({}, {"encoding_format": "base64"})
    ]
    rows = run_python("docs/http.md", tiny_prm_url, entry=entries[1])["rows"]
    assert rows.tolist() == entries[0]["logits"]


def test_the_page_of_evaluation(tiny_prm_url, tmp_path, monkeypatch, capsys):
    """On the one line of PRM800K that its authors explain."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tests" / "data" / "prm800k-1.jsonl", "phase2_test.jsonl")
    command = block_of("docs/evaluate.md", "vllm-prm evaluate").text.replace(SERVER, tiny_prm_url)
    assert "prm800k, threshold 0.5, neutral steps count as good" in ran(command, tmp_path)
    assert (tmp_path / "page.html").stat().st_size < (tmp_path / "scores.jsonl").stat().st_size + 100_000
    (tmp_path / "page.html").unlink()
    with PRMClient(tiny_prm_url) as prm:
        names = run_python("docs/evaluate.md", tiny_prm_url, prm=prm)
    assert len(names["scores"]) == len(names["benchmark"].solutions) > 1
    assert (tmp_path / "page.html").exists()


def test_the_prompt_that_the_page_of_recipes_makes():
    recipe = load_recipe(block_of("docs/recipes.md", '{"name"').text)
    (prompt,) = Scoring("Two plus two?", ["2 + 2 = 4", "So 4."], bind(recipe, tokenizer := real_tokenizer())).prompts
    written = tokenizer.decode(prompt.token_ids).removeprefix("<s>").lstrip()
    assert written == block_of("docs/recipes.md", "Problem: Two plus two?").text.rstrip("\n")


def test_the_scores_on_the_card_of_the_tiny_prm(tiny_prm_url):
    card = "examples/tiny-prm/README.md"
    body = {"input": block_of(card, "Mia has 12 apples.").text.rstrip("\n")}
    (given,) = httpx.post(f"{tiny_prm_url}/v1/embeddings", json=body).json()["data"]
    assert ", ".join(f"{score:.4f}" for score in given["embedding"]) in text(card)


def test_the_folders_exist():
    names = re.findall(r"^(\S+)", block_of("CONTRIBUTING.md", "vllm_prm/").text, re.MULTILINE)
    assert len(names) >= 7
    assert [name for name in names if not (ROOT / name).exists()] == []
