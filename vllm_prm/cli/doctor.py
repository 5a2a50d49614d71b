"""`vllm-prm doctor`: is everything in place? One line for each thing looked at, and what to do about what is not."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any

from vllm_prm.cli import options
from vllm_prm.errors import PRMError

if TYPE_CHECKING:
    import httpx

HELP = "check the installation, a model, a server"
ABOUT = """Check that vLLM is one we know, that it finds the plugin, and that the places where it hooks in exist.
With --model: that the recipe's tokens are in the model's vocabulary, by reading its config and tokenizer only.
With --server: that it answers, is a process reward model, and has the routes /v1/prm/*."""
EXAMPLES = """examples:
  vllm-prm doctor
  vllm-prm doctor --model peiyi9979/math-shepherd-mistral-7b-prm
  vllm-prm doctor --model ./my-prm --recipe my-recipe.json -- --trust-remote-code
  vllm-prm doctor --server http://localhost:8000

exit status: 0 all is well; 1 something is not (a line that begins with FAIL says what to do)"""

PLUGINS = (
    ("vllm.general_plugins", "vllm_prm.engine.start.plugin:register"),
    ("vllm.endpoint_plugins", "vllm_prm.engine.serve.endpoints:PRMEndpoints"),
)


@dataclass(frozen=True)
class Finding:
    """One line of what doctor prints. fact: how it is; todo: what to do about it, empty if all is well."""

    fact: str
    todo: str = ""


def add_parser(commands: Any) -> None:
    parser = options.add_command(commands, "doctor", HELP, ABOUT, EXAMPLES, run)
    parser.add_argument("--model", metavar="M", help="a model's name or folder")
    parser.add_argument("--recipe", metavar="R", help="the recipe to hold against it: a name, a JSON file, inline JSON")
    parser.add_argument("--server", metavar="URL", help="a server that runs")
    options.add_api_key(parser)


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    failed = False
    for finding in findings(args):
        failed |= bool(finding.todo)
        print(f"FAIL  {finding.fact}: {finding.todo}" if finding.todo else f"ok    {finding.fact}", flush=True)
    return int(failed)


def findings(args: argparse.Namespace) -> Iterator[Finding]:
    yield from versions()
    yield from plugins()
    if vllm_is_installed():
        yield from seams()
    if args.model is not None:
        yield from model(args.model, args.recipe, args.engine_words)
    if args.server is not None:
        yield from server(args.server, args.api_key)


def vllm_is_installed() -> bool:
    from vllm_prm.engine import compat

    return compat.vllm_version() is not None


def versions() -> Iterator[Finding]:
    from vllm_prm.engine import compat

    yield Finding(f"vllm-prm {version('vllm-prm')}")
    installed = compat.vllm_version()
    if installed is None:
        yield Finding(
            "no vLLM is installed: clients, reports and evaluation by a server need none; to serve, or to score with "
            f"--model, {compat.INSTALL}"
        )
    elif (sentence := compat.untested()) is not None:
        yield Finding(f"vllm {installed}", sentence)
    else:
        yield Finding(f"vllm {installed} (tested: {compat.TESTED})")
        yield Finding(f"torch {version('torch')}")


def plugins() -> Iterator[Finding]:
    for group, value in PLUGINS:
        installed = [point.value for point in entry_points(group=group) if point.name == "prm"]
        if not installed:
            yield Finding(f"no entry point 'prm' in {group}", "install the package again: pip install vllm-prm")
        elif set(installed) != {value}:
            yield Finding(
                f"entry point 'prm' in {group} is {installed}", f"expected {value}: uninstall the other package"
            )
        else:
            yield Finding(f"entry point 'prm' in {group}: {value}")
    yield allowed_plugins(os.environ.get("VLLM_PLUGINS"))


def allowed_plugins(names: str | None) -> Finding:
    """names: what VLLM_PLUGINS says."""
    if names is None:
        return Finding(
            "VLLM_PLUGINS is not set: scores on /v1/embeddings and /pooling; "
            "for /v1/prm/score, PRMClient and --server, serve with VLLM_PLUGINS=prm"
        )
    if "prm" in names.split(","):
        return Finding(f"VLLM_PLUGINS={names}: plugin and routes are on")
    return Finding(
        f"VLLM_PLUGINS={names!r} leaves prm out",
        "add it: VLLM_PLUGINS=" + ",".join(filter(None, [names, "prm"])),
    )


def seams() -> Iterator[Finding]:
    from vllm_prm.engine import compat
    from vllm_prm.engine.start.seams import SEAMS, missing_seams, unhooked

    missing = list(missing_seams())
    for sentence in missing:
        yield Finding(
            sentence, "this vLLM is not one we know: use a tested version (above), or look for a newer vllm-prm"
        )
    if missing:
        return
    if compat.untested() is not None:
        yield Finding("vLLM's seams are where we expect them, but not hooked in a version that was not tested")
        return
    not_hooked = unhooked()
    if not_hooked:
        yield Finding(
            f"could not hook into {', '.join(not_hooked)}", "run with VLLM_LOGGING_LEVEL=INFO and report what it says"
        )
    else:
        yield Finding(
            f"vLLM's seams are where we expect them, and hooked: {', '.join(name for _, name, _, _ in SEAMS)}"
        )


def model(name: str, spec: str | None, words: list[str]) -> Iterator[Finding]:
    from vllm_prm.recipes import recipe_for

    try:
        recipe = recipe_for(name, spec, "--recipe RECIPE")
    except PRMError as error:
        yield Finding(f"recipe for {name}", str(error))
        return
    yield Finding(f"recipe for {name}: {recipe.name}" + (f" ({recipe.source})" if recipe.source else ""))
    from vllm_prm.engine.start.arguments import engine_arguments
    from vllm_prm.engine.start.misfits import misfits

    try:
        engine_options = engine_arguments(words)
    except PRMError as error:  # no vLLM, or one that we do not know
        yield Finding(f"{name} cannot be checked", str(error))
        return
    complaints = misfits(name, recipe, engine_options)
    for complaint in complaints:
        yield Finding(f"{name} does not fit recipe {recipe.name}", complaint)
    if not complaints:
        tokens = ", ".join(f"{t.label} {t.spelled}" for t in recipe.scoring_tokens)
        probe = "its probe is split as in training" if recipe.probe else "it has no probe to check the tokenizer with"
        yield Finding(f"{name} fits recipe {recipe.name}: {tokens}; {probe}")


def server(url: str, api_key: str | None) -> Iterator[Finding]:
    import httpx

    from vllm_prm.cli.sources import http_client

    with http_client(url, api_key) as http:
        address = str(http.base_url).rstrip("/")
        try:
            health, models, recipe = (http.get(path) for path in ("/health", "/v1/models", "/v1/prm/recipe"))
        except httpx.HTTPError as error:
            yield Finding(
                f"{address} does not answer ({error})",
                "is it up, and the address right? VLLM_PLUGINS=prm vllm serve M --task embed",
            )
            return
    if health.status_code != 200:
        yield Finding(
            f"{address}/health says HTTP {health.status_code}",
            "the engine is starting or dead: look at the server's log",
        )
        return
    yield Finding(f"{address} is up")
    if models.status_code == 401:
        yield Finding(f"{address} refused the API key", "pass --api-key, or set VLLM_API_KEY, to the server's key")
        return
    if models.status_code == 200:
        yield Finding(f"{address} serves {', '.join(str(m.get('id')) for m in models.json().get('data', []))}")
    yield served_recipe(address, recipe)


def served_recipe(address: str, response: httpx.Response) -> Finding:
    """response: what the server says at /v1/prm/recipe."""
    if response.status_code == 404:
        return Finding(f"{address} has no route /v1/prm/recipe", _ROUTES_OFF)
    if response.status_code != 200:
        return Finding(
            f"{address}/v1/prm/recipe says HTTP {response.status_code}: {response.text[:200]}",  # a page of HTML is cut
            _NOT_A_PRM,
        )
    try:
        name = response.json()["recipe"]["name"]
    except (ValueError, KeyError, TypeError):
        return Finding(f"{address}/v1/prm/recipe names no recipe: {response.text[:200]}", _NOT_OURS)
    return Finding(f"{address} is a process reward model, recipe {name}; routes are on")


_ROUTES_OFF = (
    "serve with VLLM_PLUGINS=prm in the environment, which makes vLLM add it, and a pooling model (--task embed)"
)
_NOT_OURS = "this is another server: give the address of one that vllm-prm runs in"
_NOT_A_PRM = "the server knows no recipe: serve with --prm NAME or --prm FILE.json"
