"""The rules of the house: imports point down and never in a circle, files and functions are short, packages declared.

Each rule is a function from sources to a list of sentences, which is empty if the rule holds. tests/unit/test_house.py
applies them to this repository, tests/unit/test_house_rules.py shows that each can fail.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sources import Edge, Sources, circles, functions

FILE_LIMIT, FUNCTION_LIMIT = 300, 40  # lines; a function's docstring is not counted

# The files and folders of vllm_prm, from the bottom up. Those of one level do not import each other.
LEVELS = (
    ("errors",),
    ("inputs", "look"),
    ("jsonl", "questions", "recipes"),
    ("aggregate", "lines", "wire"),
    ("scores",),
    ("prompts",),
    ("reward",),
    ("scorer",),
    ("client", "engine", "evaluate"),
    ("integrations",),
    ("report",),
    ("__init__",),
    ("cli",),
)
HEAVY = {"torch", "vllm"}  # they take seconds to import, and only vLLM's own processes need them

# The folders of vllm_prm/engine are processes: start, worker, serve. They import each other here only.
BETWEEN_PROCESSES = {
    ("start/plugin.py", "worker/model.py"),  # the hook in vLLM's model loading, which calls what makes a PRM
    (
        "serve/offline.py",
        "start/options.py",
    ),  # PRM(...) starts its engine with the same options as a server
}

# Imported and not declared: {package: the declared one that requires it}.
BROUGHT_BY = {
    # They have to be what vLLM was built and tested with, and vLLM bounds them. Only engine/, inside vLLM's own
    # processes, may import what vLLM brings.
    **dict.fromkeys(("fastapi", "prometheus_client", "starlette", "torch"), "vllm"),
    "pydantic_core": "pydantic",  # each release wants one exact version of it
}
# Imported only when they are there, because it is they who ask: stacks that a module of integrations/ is written for.
CALLERS = {"pyarrow": "vllm_prm/integrations/ray_data.py", "skyrl_gym": "vllm_prm/integrations/skyrl.py"}


def in_circles(sources: Sources) -> list[str]:
    return [", ".join(map(str, way)) for way in circles(sources.edges())]


def room(path: str) -> str:
    """The file or folder of vllm_prm that a path lies in, "cli" of "vllm_prm/cli/score.py"; "" outside."""
    top, _, inside = path.partition("/")
    return inside.split("/")[0].removesuffix(".py") if top == "vllm_prm" else ""


def between_rooms(sources: Sources) -> list[Edge]:
    rooms = ((edge, room(edge.importer), room(edge.imported)) for edge in sources.edges())
    return [edge for edge, importer, imported in rooms if importer and imported and importer != imported]


def pointing_up(sources: Sources) -> list[str]:
    level_of = {name: level for level, names in enumerate(LEVELS) for name in names}
    rooms = {room(source.path) for source in sources.packages.values()} - {""}
    sentences = [f"{name} has no level: add it to LEVELS" for name in sorted(rooms - {*level_of})]
    return sentences + [
        f"{edge}, which is not below it"
        for edge in between_rooms(sources)
        if level_of.get(room(edge.imported), 0) >= level_of.get(room(edge.importer), len(LEVELS))
    ]


def importing_the_engine(sources: Sources) -> list[str]:
    """Only the lazy table and functions of the command line may: it costs seconds, and not everybody needs it."""
    allowed = ("__init__", "cli")
    return [
        f"{edge}; only cli/ may, inside functions"
        for edge in between_rooms(sources)
        if room(edge.imported) == "engine" and not (room(edge.importer) in allowed and edge.in_function)
    ]


def heavy_outside_the_engine(sources: Sources) -> list[str]:
    return [
        f"{source.path}:{imported.line} imports {imported.module}; only engine/ may"
        for source, imported in sources.external_imports()
        if imported.module.split(".")[0] in HEAVY and room(source.path) not in ("", "engine")
    ]


def between_processes(sources: Sources, allowed: set[tuple[str, str]]) -> list[str]:
    """Imports between the folders of engine/, and from the files that all of them use to one of the folders."""
    crossing = {}
    for edge in sources.edges():
        importer, imported = (path.removeprefix("vllm_prm/engine/") for path in (edge.importer, edge.imported))
        inside = importer != edge.importer and imported != edge.imported and "/" in imported
        if inside and importer.split("/")[0] != imported.split("/")[0]:
            crossing[importer, imported] = edge
    gone = [f"{importer} no longer imports {imported}: take it out" for importer, imported in allowed - {*crossing}]
    return sorted(gone + [f"{edge}, another process" for pair, edge in crossing.items() if pair not in allowed])


def too_long(sources: Sources) -> list[str]:
    sentences = []
    for source in sources.files():
        lines = len(source.text.splitlines())
        if lines > FILE_LIMIT:
            sentences.append(f"{source.path} has {lines} lines, at most {FILE_LIMIT} are allowed")
        sentences += [
            f"{source.path}:{line} {name} has {lines} lines, at most {FUNCTION_LIMIT} are allowed"
            for name, line, lines in functions(source)
            if lines > FUNCTION_LIMIT
        ]
    return sentences


def undeclared(sources: Sources, requirements: Iterable[str], brought_by: Mapping[str, str]) -> list[str]:
    """The packages imported by `sources` that are neither among `requirements`, those of pyproject.toml, nor brought by
    one that is.
    """
    declared = {canonicalize_name(Requirement(requirement).name) for requirement in requirements}
    places: dict[str, list[str]] = {}
    for source, imported in sources.external_imports():
        if imported.in_function and CALLERS.get(imported.module.split(".")[0]) == source.path:
            continue
        places.setdefault(imported.module.split(".")[0], []).append(f"{source.path}:{imported.line}")
    packages = {name: places[name] for name in sorted(set(places) - sys.stdlib_module_names)}
    sentences = [
        f"{where[0]} imports {name}: declare it in pyproject.toml"
        for name, where in packages.items()
        if name not in brought_by and not _distributions(name) & declared
    ]
    for name, bringer in brought_by.items():
        if name not in packages:
            sentences.append(f"nothing imports {name}: take it out")
        elif not _distributions(bringer) & declared or not _distributions(name) & _required_by(bringer):
            sentences.append(f"{packages[name][0]} imports {name}, and no declared {bringer} requires it")
        elif bringer in HEAVY and (outside := [place for place in packages[name] if "/engine/" not in place]):
            sentences.append(f"{outside[0]} imports {name}, which comes with {bringer}: only engine/ may")
    return sentences


def _distributions(package: str) -> set[str]:
    """What pip may call the distributions that an imported package comes from; its own name is one of them."""
    return {canonicalize_name(name) for name in (package, *packages_distributions().get(package, ()))}


def _required_by(package: str) -> set[str]:
    requirements = [line for name in packages_distributions().get(package, ()) for line in requires(name) or ()]
    return {canonicalize_name(Requirement(line).name) for line in requirements}
