"""What this package imports of vLLM, read from its own source, so that no list of it can grow old.

Many of these imports are run only when a server or an engine starts, some only with a request.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_ENGINE = Path(__file__).parents[1]  # nothing outside it imports vLLM


def vllm_imports() -> Iterator[tuple[str, str | None, str]]:
    """(module of vLLM, name in it or None, our file) of every import that is run somewhere in engine/."""
    for path in sorted(_ENGINE.rglob("*.py")):
        ours = path.relative_to(_ENGINE.parent).as_posix()
        for node in _nodes_that_run(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, None, ours) for alias in node.names if _is_vllms(alias.name))
            elif isinstance(node, ast.ImportFrom) and node.module and _is_vllms(node.module):
                yield from ((node.module, alias.name, ours) for alias in node.names)


def _is_vllms(module: str) -> bool:
    return module.split(".")[0] == "vllm"


def _nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """All but those under `if TYPE_CHECKING`, which no interpreter runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _nodes_that_run(node)
