"""Importing the package is light, and only `engine` knows vLLM."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vllm_prm

PACKAGE = Path(vllm_prm.__file__).parent


def test_importing_the_package_pulls_in_neither_torch_nor_vllm():
    heavy = "{'torch', 'vllm', 'transformers', 'numpy', 'pydantic'}"
    code = f"import sys, vllm_prm; dir(vllm_prm); print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("path", [*sorted(PACKAGE.glob("*.py")), *sorted(PACKAGE.glob("evaluate/*.py"))], ids=str)
def test_only_engine_imports_vllm(path):
    for node in _run_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] not in ("vllm", "torch")
            assert not name.startswith("vllm_prm.engine")


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING`, which no interpreter runs."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield node
            yield from _run_nodes(node)


def test_public_names_exist():
    assert sorted(vllm_prm.__all__) == vllm_prm.__all__
    for name in vllm_prm.__all__:
        assert hasattr(vllm_prm, name)
        assert name in dir(vllm_prm)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Prm'"):
        _ = vllm_prm.Prm
