"""Importing the package is light, and only `engine` knows vLLM."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vllm_prm

PACKAGE = Path(vllm_prm.__file__).parent


def test_importing_the_package_pulls_in_neither_torch_nor_vllm():
    code = "import sys, vllm_prm; print(sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_only_engine_imports_vllm(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] not in ("vllm", "torch")
            assert not name.startswith("vllm_prm.engine")


def test_public_names_exist():
    assert sorted(vllm_prm.__all__) == vllm_prm.__all__
    for name in vllm_prm.__all__:
        assert hasattr(vllm_prm, name)
