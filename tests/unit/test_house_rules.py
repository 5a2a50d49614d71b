"""Each rule of the house (tests/house.py) finds what breaks it, in a small made-up repository."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from house import (
    between_processes,
    heavy_outside_the_engine,
    importing_the_engine,
    in_circles,
    pointing_up,
    too_long,
    undeclared,
)
from sources import Sources


@pytest.fixture
def made_up(tmp_path):
    """A function that writes files, {path: text}, and returns their Sources."""

    def write(files: Mapping[str, str]) -> Sources:
        for path, text in {"vllm_prm/__init__.py": "", **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return Sources(tmp_path, ("vllm_prm",), scripts=("benchmarks",))

    return write


def test_a_circle_is_found_through_functions_and_packages(made_up):
    sources = made_up(
        {
            "vllm_prm/a.py": "import os\nfrom vllm_prm.room import thing\n",
            "vllm_prm/room/__init__.py": "from vllm_prm.room.b import thing\n",
            "vllm_prm/room/b.py": "class B:\n    def f(self):\n        from vllm_prm import c\n",
            "vllm_prm/c.py": "from importlib import import_module\n\nif True:\n    import_module('vllm_prm.a')\n",
        }
    )
    circle = (
        "vllm_prm/a.py:2 imports vllm_prm/room/b.py, vllm_prm/room/b.py:3 imports vllm_prm/c.py, "
        "vllm_prm/c.py:4 imports vllm_prm/a.py"
    )
    assert in_circles(sources) == [circle]


def test_a_circle_is_found_between_scripts_and_through_a_lazy_table(made_up):
    sources = made_up(
        {
            "vllm_prm/__init__.py": "_HOMES = {'vllm_prm.a': ('A',), 'vllm_prm.b': ('B',)}\n",
            "vllm_prm/a.py": "from vllm_prm import B\n",
            "vllm_prm/b.py": "def f():\n    from .a import A\n",
            "benchmarks/one.py": "import two\n",
            "benchmarks/two.py": "import one\n",
        }
    )
    assert in_circles(sources) == [
        "benchmarks/one.py:1 imports benchmarks/two.py, benchmarks/two.py:1 imports benchmarks/one.py",
        "vllm_prm/a.py:1 imports vllm_prm/b.py, vllm_prm/b.py:2 imports vllm_prm/a.py",
    ]


def test_what_no_interpreter_imports_is_no_circle(made_up):
    sources = made_up(
        {
            "vllm_prm/a.py": "if TYPE_CHECKING:\n    from vllm_prm.b import B\nelse:\n    B = None\n",
            "vllm_prm/b.py": "from vllm_prm import a\n",
            "vllm_prm/room/__init__.py": "from vllm_prm.room.c import C\nfrom vllm_prm.room.d import D\n",
            "vllm_prm/room/c.py": "from vllm_prm.room import d\n",
            "vllm_prm/room/d.py": "",
        }
    )
    assert in_circles(sources) == []


def test_an_import_of_a_module_that_is_not_there_raises(made_up):
    with pytest.raises(LookupError, match=r"vllm_prm/a\.py:1 imports vllm_prm\.gone"):
        made_up({"vllm_prm/a.py": "from vllm_prm.gone import A\n"}).edges()


def test_imports_that_point_up_are_found(made_up):
    sources = made_up(
        {
            "vllm_prm/errors.py": "def f():\n    from vllm_prm.scores import S\n",
            "vllm_prm/scores.py": "from vllm_prm import attic, errors\n",
            "vllm_prm/attic.py": "",
            "vllm_prm/client/__init__.py": "from vllm_prm.evaluate import evaluate\n",
            "vllm_prm/evaluate/__init__.py": "from vllm_prm.evaluate.running import evaluate\n",
            "vllm_prm/evaluate/running.py": "import vllm_prm.errors\n",
        }
    )
    assert pointing_up(sources) == [
        "attic has no level: add it to LEVELS",
        "vllm_prm/client/__init__.py:1 imports vllm_prm/evaluate/running.py, which is not below it",
        "vllm_prm/errors.py:2 imports vllm_prm/scores.py, which is not below it",
    ]


def test_imports_of_the_engine_and_of_vllm_are_found(made_up):
    sources = made_up(
        {
            "vllm_prm/__init__.py": "_HOMES = {'vllm_prm.engine.prm': ('PRM',)}\n",
            "vllm_prm/engine/__init__.py": "",
            "vllm_prm/engine/prm.py": "import torch\n",
            "vllm_prm/report.py": "def f():\n    from vllm_prm import PRM\n    from torch.nn import Module\n",
            "vllm_prm/cli/__init__.py": "def f():\n    import vllm_prm.engine.prm\n",
            "vllm_prm/cli/score.py": "import vllm_prm.engine.prm\n\nlambda: __import__('vllm')\n",
            "benchmarks/one.py": "import vllm\n",
        }
    )
    assert importing_the_engine(sources) == [
        "vllm_prm/cli/score.py:1 imports vllm_prm/engine/prm.py; only cli/ may, inside functions",
        "vllm_prm/report.py:2 imports vllm_prm/engine/prm.py; only cli/ may, inside functions",
    ]
    assert heavy_outside_the_engine(sources) == [
        "vllm_prm/cli/score.py:3 imports vllm; only engine/ may",
        "vllm_prm/report.py:3 imports torch.nn; only engine/ may",
    ]


def test_imports_between_processes_are_found(made_up):
    sources = made_up(
        {
            "vllm_prm/engine/settings.py": "def f():\n    from vllm_prm.engine.worker import head\n",
            "vllm_prm/engine/worker/head.py": "import vllm_prm.engine.settings\nimport vllm_prm.engine.serve.routes\n",
            "vllm_prm/engine/serve/routes.py": "from vllm_prm.engine.start import options\n",
            "vllm_prm/engine/start/options.py": "from vllm_prm.engine.start import flags\n",
            "vllm_prm/engine/start/flags.py": "",
        }
    )
    allowed = {("serve/routes.py", "start/options.py"), ("start/flags.py", "worker/head.py")}
    assert between_processes(sources, allowed) == [
        "start/flags.py no longer imports worker/head.py: take it out",
        "vllm_prm/engine/settings.py:2 imports vllm_prm/engine/worker/head.py, another process",
        "vllm_prm/engine/worker/head.py:2 imports vllm_prm/engine/serve/routes.py, another process",
    ]


def test_long_files_and_functions_are_found(made_up):
    nested = "def outer():\n    @property\n    def inner(self):\n" + "        x = 1\n" * 40 + "\n\n"
    docstring = '    """Two lines,\n    not counted."""\n'
    allowed = "async def allowed():\n" + docstring + "    x = 1\n" * 39 + "\n\n"
    sources = made_up(
        {
            "vllm_prm/a.py": nested + allowed + "x = 1\n" * 211,  # 300 lines
            "vllm_prm/b.py": "x = 1\n" * 301,
            "benchmarks/c.py": "def main(): pass\n",
        }
    )
    assert too_long(sources) == [
        "vllm_prm/a.py:1 outer has 43 lines, at most 40 are allowed",
        "vllm_prm/a.py:3 inner has 41 lines, at most 40 are allowed",
        "vllm_prm/b.py has 301 lines, at most 300 are allowed",
    ]


def test_undeclared_packages_are_found(made_up):
    sources = made_up(
        {
            "vllm_prm/a.py": "def f():\n    import numpy.linalg\n    from pydantic_core import core_schema\n",
            "vllm_prm/b.py": "import torch\nimport tqdm\nimport json\n",
            "vllm_prm/engine/c.py": "import fastapi\nimport no_such_package\n",
        }
    )
    brought_by = {"fastapi": "vllm", "torch": "vllm", "pydantic_core": "tqdm", "starlette": "vllm"}
    assert undeclared(sources, ["NumPy>=2", "vllm[extra]>=0.1"], brought_by) == [
        "vllm_prm/engine/c.py:2 imports no_such_package: declare it in pyproject.toml",
        "vllm_prm/b.py:2 imports tqdm: declare it in pyproject.toml",
        "vllm_prm/b.py:1 imports torch, which comes with vllm: only engine/ may",
        "vllm_prm/a.py:3 imports pydantic_core, and no declared tqdm requires it",
        "nothing imports starlette: take it out",
    ]
    without_vllm = undeclared(sources, ["numpy"], {"fastapi": "vllm"})
    assert "vllm_prm/engine/c.py:1 imports fastapi, and no declared vllm requires it" in without_vllm


def test_a_stack_is_imported_only_by_the_module_that_it_asks_and_only_then(made_up):
    inside, skyrl = "def f():\n    import skyrl_gym\n", "vllm_prm/integrations/skyrl.py"
    assert undeclared(made_up({skyrl: inside}), [], {}) == []
    for path, text in ((skyrl, "import skyrl_gym\n"), ("vllm_prm/a.py", inside)):
        (sentence,) = undeclared(made_up({skyrl: inside, path: text}), [], {})
        assert sentence.startswith(f"{path}:")
