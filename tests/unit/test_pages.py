"""What pages say is well-formed and names what is there: code compiles, imports exist, commands are understood."""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import re

import pytest
import yaml
from documentation import PAGES, ROOT, invocations, on, text

from vllm_prm import load_recipe
from vllm_prm.cli import parsed
from vllm_prm.wire.types import ScoreRequest

BLOCKS = [(page, block) for page in PAGES for block in on(page)]
KNOWN = {"", "bash", "python", "json", "yaml", "dockerfile", "mermaid"}
# Pages whose JSON blocks are of one kind, and what reads that kind.
READS_JSON = {"docs/recipes.md": load_recipe, "docs/images.md": lambda text: ScoreRequest.model_validate_json(text)}
FOLDERS = ("vllm_prm", "tests", "benchmarks", "sweep", "examples", "docs", "tools")
OTHERS_PROGRAMS = ("vllm/", "scripts/test_time_compute.py", "prm_plugin.py")  # vLLM's, search-and-learn's, the reader's


def of(language: str) -> list:
    chosen = [(page, block) for page, block in BLOCKS if block.language == language]
    assert chosen, f"no page has a block of {language}"
    return [pytest.param(*one, id=f"{one[0]}: {one[1].first_line:.30}") for one in chosen]


def test_blocks_say_what_they_are_in_words_that_are_tested_here():
    assert {block.language for _, block in BLOCKS} <= KNOWN


@pytest.mark.parametrize(("page", "block"), of("python"))
def test_python_compiles_and_what_it_imports_of_ours_exists(page, block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vllm_prm":
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize(("page", "block"), of("json"))
def test_json_is_read_by_what_it_is_for(page, block):
    READS_JSON.get(page, json.loads)(block.text)


@pytest.mark.parametrize(("page", "block"), of("yaml"))
def test_yaml_parses(page, block):
    assert yaml.safe_load(block.text)


OUR_COMMANDS = [(page, words) for page, block in BLOCKS for words in invocations(block, "vllm-prm")]


@pytest.mark.parametrize(("page", "words"), OUR_COMMANDS, ids=lambda value: str(value)[:60])
def test_our_commands_are_understood(page, words):
    if words == ["--help"]:
        return
    with contextlib.chdir(ROOT):
        args = parsed(words)  # argparse ends the program if they are not
    assert callable(args.run)


def test_commands_are_found():
    assert len(OUR_COMMANDS) > 15
    assert {words[0] for _, words in OUR_COMMANDS} >= {"serve", "score", "rank", "evaluate", "report", "doctor"}


@pytest.mark.parametrize("page", PAGES)
def test_programs_and_tests_that_a_page_names_exist(page):
    """By their path, or the end of it: a table says `test_heads.py`."""
    names = set(re.findall(r"(?<![\w./-])((?:[\w.-]+/)*\w+\.py)\b", text(page)))
    others = {name for name in names if name.startswith(OTHERS_PROGRAMS)}
    paths = [f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    gone = [name for name in names - others if not any(path.endswith(f"/{name.lstrip('./')}") for path in paths)]
    assert gone == []


def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub makes them, and those that it writes itself."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    made = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return {*made, *re.findall(r'<a id="(\w+)"', text(page))}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)]*)\)", text(page)):
        if "://" in link:
            continue
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), f"{page} links to {link}#{anchor}"


def test_the_site_has_every_page_and_no_other():
    nav = re.findall(r"([\w./-]+\.md)$", (ROOT / "docs" / "site" / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    ours = {page for page in nav if page.startswith("docs/")}
    assert ours == {page for page in PAGES if page.startswith("docs/")}
    assert len(nav) == len(set(nav))


def test_the_page_of_routes_names_every_field_of_a_request():
    section = text("docs/http.md").partition("## `POST /v1/prm/score`")[2].partition("\n### ")[0]
    named = set(
        re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in section.splitlines() if line[:1] == "|"))
    )
    assert {field.alias or name for name, field in ScoreRequest.model_fields.items()} == named
