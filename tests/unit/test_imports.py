"""Importing the package is light, and its public names are there. (What imports what: test_house.py.)"""

from __future__ import annotations

import subprocess
import sys

import pytest

import vllm_prm


def test_importing_the_package_pulls_in_neither_torch_nor_vllm():
    heavy = "{'torch', 'vllm', 'transformers', 'numpy', 'pydantic'}"
    code = f"import sys, vllm_prm; dir(vllm_prm); print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_public_names_exist():
    assert sorted(vllm_prm.__all__) == vllm_prm.__all__
    for name in vllm_prm.__all__:
        assert hasattr(vllm_prm, name)
        assert name in dir(vllm_prm)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Prm'"):
        _ = vllm_prm.Prm
