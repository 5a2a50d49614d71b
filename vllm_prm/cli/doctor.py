"""`vllm-prm doctor`: is everything in place? One line for each thing looked at, and what to do about what is not."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from typing import Any

from vllm_prm.errors import PRMError

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
    ("vllm.endpoint_plugins", "vllm_prm.engine.serve.routes:PRMEndpoints"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's. todo: what to do about it; empty if all is well."""

    what: str
    todo: str = ""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor", help=HELP, description=ABOUT, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="M", help="a model's name or folder")
    parser.add_argument("--recipe", metavar="R", help="the recipe to hold against it: a name, a JSON file, inline JSON")
    parser.add_argument("--server", metavar="URL", help="a server that runs")
    parser.add_argument("--api-key", metavar="KEY", help="the server's API key; default: $VLLM_API_KEY")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    failed = False
    for finding in findings(args):
        failed |= bool(finding.todo)
        print(f"FAIL  {finding.what}: {finding.todo}" if finding.todo else f"ok    {finding.what}", flush=True)
    return int(failed)


def findings(args: argparse.Namespace) -> Iterator[Finding]:
    yield from versions()
    yield from plugins()
    if _version("vllm") is not None:
        yield from seams()
    if args.model is not None:
        yield from model(args.model, args.recipe, args.engine_words)
    if args.server is not None:
        yield from server(args.server, args.api_key or os.environ.get("VLLM_API_KEY"))


def versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield Finding(f"vllm-prm {version('vllm-prm')}")
    for name in ("vllm", "torch"):
        found = _version(name)
        wanted = next((r for r in map(Requirement, requires("vllm-prm") or ()) if r.name == name), None)
        if found is None:
            yield Finding(f"{name} is not installed", f"pip install '{wanted or name}'")
        elif wanted is not None and not wanted.specifier.contains(found.split("+")[0], prereleases=True):
            yield Finding(f"{name} {found}", f"tested with {wanted.specifier} only; pip install '{wanted}'")
        else:
            yield Finding(f"{name} {found}" + (f" (tested: {wanted.specifier})" if wanted is not None else ""))


def plugins() -> Iterator[Finding]:
    allowed = os.environ.get("VLLM_PLUGINS")
    for group, value in PLUGINS:
        found = [point.value for point in entry_points(group=group) if point.name == "prm"]
        if not found:
            yield Finding(f"no entry point 'prm' in {group}", "install the package again: pip install vllm-prm")
        elif set(found) != {value}:
            yield Finding(f"entry point 'prm' in {group} is {found}", f"expected {value}: uninstall the other package")
        else:
            yield Finding(f"entry point 'prm' in {group}: {found[0]}")
    if allowed is None:
        yield Finding(
            "VLLM_PLUGINS is not set: scores on /v1/embeddings and /pooling; "
            "for /v1/prm/score, PRMClient and --server, serve with VLLM_PLUGINS=prm"
        )
    elif "prm" in allowed.split(","):
        yield Finding(f"VLLM_PLUGINS={allowed}: plugin and routes are on")
    else:
        yield Finding(
            f"VLLM_PLUGINS={allowed!r} leaves prm out",
            "add it: VLLM_PLUGINS=" + ",".join(filter(None, [allowed, "prm"])),
        )


def seams() -> Iterator[Finding]:
    from vllm_prm.engine.start.seams import SEAMS, missing_seams, unhooked

    missing = list(missing_seams())
    for sentence in missing:
        yield Finding(
            sentence, "this vLLM is not one we know: use a tested version (above), or look for a newer vllm-prm"
        )
    if missing:
        return
    left = unhooked()
    if left:
        yield Finding(
            f"could not hook into {', '.join(left)}", "run with VLLM_LOGGING_LEVEL=INFO and report what it says"
        )
    else:
        yield Finding(
            f"vLLM's seams are where we expect them, and hooked: {', '.join(name for _, name, _, _ in SEAMS)}"
        )


def model(name: str, spec: str | None, words: list[str]) -> Iterator[Finding]:
    from vllm_prm.cli.scorers import recipe_for

    try:
        recipe = recipe_for(name, spec)
    except PRMError as error:
        yield Finding(f"recipe for {name}", str(error))
        return
    yield Finding(f"recipe for {name}: {recipe.name}" + (f" ({recipe.source})" if recipe.source else ""))
    from vllm_prm.engine.start.arguments import engine_arguments
    from vllm_prm.engine.start.misfits import misfits

    found = list(misfits(name, recipe, engine_arguments(words)))
    for _, complaint in found:
        yield Finding(f"{name} does not fit recipe {recipe.name}", complaint)
    if not found:
        tokens = ", ".join(f"{t.label} {t.piece or t.id}" for t in recipe.scoring_tokens)
        probe = "its probe is split as in training" if recipe.probe else "it has no probe to check the tokenizer with"
        yield Finding(f"{name} fits recipe {recipe.name}: {tokens}; {probe}")


def server(url: str, key: str | None) -> Iterator[Finding]:
    import httpx

    from vllm_prm.client.transport import certificates, checked_url

    base, headers = checked_url(url), {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=base, headers=headers, timeout=60, verify=certificates()) as http:
        try:
            health = http.get("/health").status_code
            models = http.get("/v1/models")
            recipe = http.get("/v1/prm/recipe")
        except httpx.HTTPError as error:
            yield Finding(
                f"{base} does not answer ({error})",
                "is it up, and the address right? VLLM_PLUGINS=prm vllm serve M --task embed",
            )
            return
    if health != 200:
        yield Finding(f"{base}/health says HTTP {health}", "the engine is starting or dead: look at the server's log")
        return
    yield Finding(f"{base} is up")
    if models.status_code == 401:
        yield Finding(f"{base} refused the API key", "pass --api-key, or set VLLM_API_KEY, to the server's key")
        return
    if models.status_code == 200:
        yield Finding(f"{base} serves {', '.join(str(m.get('id')) for m in models.json().get('data', []))}")
    if recipe.status_code == 404:
        yield Finding(f"{base} has no route /v1/prm/recipe", _ROUTES_OFF)
    elif recipe.status_code != 200:
        yield Finding(f"{base}/v1/prm/recipe says HTTP {recipe.status_code}: {recipe.text[:200]}", _NOT_A_PRM)
    else:
        yield Finding(f"{base} is a process reward model, recipe {recipe.json()['recipe']['name']}; routes are on")


_ROUTES_OFF = (
    "serve with VLLM_PLUGINS=prm in the environment, which makes vLLM add it, and a pooling model (--task embed)"
)
_NOT_A_PRM = "the server knows no recipe: serve with --prm NAME or --prm FILE.json"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
