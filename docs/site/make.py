"""Lays out the pages of the documentation site in build/site-pages, for mkdocs (mkdocs.yml beside this file).

Pages that stand in the repository are copied with whatever they link to, at the same places, so that a link that leads
somewhere in the repository does so on the site; the README is the first of them. Reference pages are written from the
code: they cannot say otherwise. Two scripts that the theme would load from the web go beside them.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
PAGES = ROOT / "build" / "site-pages"
FIRST = "index.md"  # the README
ARCHIVES = ROOT / ".venvs" / "docs"  # where `make docs` puts the packages of scripts.txt, as npm packs them
# What pages need that are read from a disk: drawings, and searching (browsers start no workers there).
SCRIPTS = {"mermaid": "package/dist/mermaid.min.js", "iframe-worker": "package/shim/index.js"}
FOREIGN = ("HTTP", "Validation", "ErrorResponse", "vllm__")  # bodies that are FastAPI's and vLLM's
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def main() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for page in _tracked("*.md"):
        if not page.startswith("docs/site/"):
            _copy_with_links(page)
    _unpack_scripts()
    shutil.copy(ROOT / "docs" / "site" / "site.css", PAGES / "assets")
    for name, text in (
        ("examples/README.md", examples()),
        ("reference/python.md", python()),
        ("reference/http.md", http()),
        ("reference/cli.md", command_line()),
    ):
        target = PAGES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


def _tracked(pattern: str) -> list[str]:
    done = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def _copy_with_links(page: str) -> None:
    """The page, and the files that it links to. A link to a folder becomes one to its page, or to the repository."""
    source, target = ROOT / page, PAGES / (FIRST if page == "README.md" else page)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = source.read_text("utf-8")
    for link in {link for link in LINK.findall(text) if "://" not in link and not link.startswith("mailto:")}:
        linked = (source.parent / link).resolve()
        if linked == ROOT / "README.md":
            text = text.replace(f"]({link}", f"]({link.removesuffix('README.md')}{FIRST}")
        elif linked.is_dir():
            its_page = f"{link.rstrip('/')}/README.md"
            on_the_web = f"{REPOSITORY}/tree/main/{linked.relative_to(ROOT)}"
            text = text.replace(f"]({link})", f"]({its_page if (linked / 'README.md').exists() else on_the_web})")
        elif linked.is_file() and linked.suffix != ".md":
            beside = PAGES / linked.relative_to(ROOT)
            beside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(linked, beside)
    if "\n```mermaid\n" in text:  # only there, for it is large; the theme loads another if this one is missing
        text += f'\n<script src="{"../" * page.count("/")}{_script("mermaid")}"></script>\n'
    target.write_text(text, "utf-8")


def _script(name: str) -> str:
    return f"assets/{name}.js"


def _unpack_scripts() -> None:
    for name, member in SCRIPTS.items():
        (archive,) = ARCHIVES.glob(f"{name}-*.tgz")
        with tarfile.open(archive) as packed:
            script = packed.extractfile(member)
            assert script is not None, f"{archive} has no {member}"
            (PAGES / _script(name)).parent.mkdir(parents=True, exist_ok=True)
            (PAGES / _script(name)).write_bytes(script.read())


def examples() -> str:
    """Every example, by its own words."""
    parts = ["# Examples", "Each is a program that runs as it stands, from the repository's root."]
    for path in sorted((ROOT / "examples").glob("*.py")):
        about = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        if about:
            parts += [f"## `examples/{path.name}`", about, _fenced(path.read_text("utf-8"), "python")]
    return "\n\n".join(parts) + "\n"


def python() -> str:
    """What `import vllm_prm` offers; mkdocstrings fills in signatures and docstrings."""
    import vllm_prm

    parts = ["# Python", "What `import vllm_prm` offers. Importing it imports neither torch nor vLLM."]
    for module, names in vllm_prm._HOMES.items():
        parts += [f"::: {module}.{name}" for name in names]
    return "\n\n".join(parts) + "\n"


def http() -> str:
    """Our routes, from the description that the server itself gives at /openapi.json."""
    from fastapi import FastAPI

    from vllm_prm.engine.serve.routes import router

    app = FastAPI()
    app.include_router(router)
    description = app.openapi()
    parts = ["# HTTP", "From the server's own `/openapi.json`; [how to use it](../docs/http.md)."]
    for path, methods in description["paths"].items():
        for method, route in methods.items():
            parts += [f"## `{method.upper()} {path}`", route["summary"] + ".", route["description"]]
            parts += _examples_of(route)
    parts += ["## Bodies"]
    for name, schema in description["components"]["schemas"].items():
        if "properties" in schema and not name.startswith(FOREIGN):
            parts += [f"### {_short(name)}", *filter(None, [schema.get("description")]), _fields(schema)]
    return "\n\n".join(parts) + "\n"


def _examples_of(route: dict[str, Any]) -> list[str]:
    content = route.get("requestBody", {}).get("content", {}).get("application/json", {})
    parts = []
    for title, example in content.get("examples", {}).items():
        parts += [f"*{title}*", _fenced(json.dumps(example["value"], indent=2, ensure_ascii=False), "json")]
    if "schema" in content:
        parts.insert(0, f"Body: {_type(content['schema'])}.")
    for status, answer in sorted(route["responses"].items()):
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        told = f" ({answer['description']})" if status != "200" and answer.get("description") else ""
        parts.append(f"- `{status}`: {_type(schema) or 'no body of ours'}{told}")
    return parts


def _fields(schema: dict[str, Any]) -> str:
    rows = ["| field | type | |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        needed = "required. " if name in schema.get("required", ()) else ""
        about = " ".join((needed + field.get("description", "")).split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {_type(field)} | {about} |")
    return "\n".join(rows)


def _type(schema: dict[str, Any]) -> str:
    """A type in a few words, with links to the bodies on the page."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return _short(name) if name.startswith(FOREIGN) else f"[{_short(name)}](#{_short(name).lower()})"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {})) or 'anything'}"
    return str(schema.get("type", ""))


def _short(name: str) -> str:
    """Of two types with one name FastAPI gives the modules' names too."""
    return name.rsplit("__", 1)[-1]


def command_line() -> str:
    """What `--help` says."""
    from vllm_prm.cli import parser

    top = parser()
    parts = ["# Command line", _fenced(top.format_help(), "text")]
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                parts += [f"## vllm-prm {name}", _fenced(command.format_help(), "text")]
    return "\n\n".join(parts) + "\n"


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


if __name__ == "__main__":
    main()
