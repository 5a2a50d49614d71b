"""Which vLLM this package serves on, and what it says where there is none, or another one."""

from __future__ import annotations

import tomllib

import pytest
from conftest import ROOT
from fastapi import FastAPI
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vllm_prm import PRM, UnsupportedError
from vllm_prm.cli import main
from vllm_prm.engine import compat
from vllm_prm.engine.serve.endpoints import PRMEndpoints
from vllm_prm.engine.start import plugin
from vllm_prm.engine.start.arguments import engine_arguments

TINY_PRM = str(ROOT / "examples" / "tiny-prm")
KNOWN = ["0.29.0", "0.29.0+cpu", "0.31.2", "0.33.0", "0.33.1.dev3+gabc", "0.33.9rc1"]
OTHERS = ["0.28.1", "0.29.0rc2", "0.34.0", "0.34.0rc1", "0.34.0.dev1+g1", "1.0"]


@pytest.fixture
def installed(monkeypatch):
    """installed("0.34.0"): that vLLM seems to be there; None: no vLLM."""
    return lambda version: monkeypatch.setattr(compat, "vllm_version", lambda: version)


@pytest.fixture
def warnings(monkeypatch):
    """What plugin and endpoints warn of, which have one logger."""
    messages: list[str] = []
    monkeypatch.setattr(plugin.logger, "warning", lambda text, *values: messages.append(text % values))
    return messages


def test_pip_and_the_plugin_know_the_same_range():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (requirement,) = map(Requirement, extras["vllm"])
    assert (requirement.name, requirement.specifier) == ("vllm", SpecifierSet(compat.TESTED))


@pytest.mark.parametrize("version", KNOWN)
def test_a_version_of_the_range_is_known(installed, version):
    installed(version)
    assert compat.untested() is None
    compat.check_vllm()


@pytest.mark.parametrize("version", OTHERS)
def test_another_version_is_left_alone(installed, monkeypatch, warnings, version):
    installed(version)
    monkeypatch.setattr(plugin, "_register", lambda: pytest.fail("it was hooked into"))
    plugin.register()
    (sentence,) = warnings
    assert f"not with the installed vLLM {version}, so it adds nothing to it" in sentence
    assert "pip install 'vllm-prm[vllm]'" in sentence
    app = FastAPI()
    routes = list(app.routes)
    PRMEndpoints().attach_router(app)
    assert app.routes == routes


def test_only_the_first_process_says_it(installed, monkeypatch, warnings):
    installed("0.34.0")
    monkeypatch.setattr(plugin.multiprocessing, "parent_process", lambda: "the front end")
    plugin.register()
    assert not warnings


def test_routes_that_cannot_be_imported_do_not_stop_the_server(installed, monkeypatch, warnings):
    installed("0.33.0")
    monkeypatch.setitem(plugin.sys.modules, "vllm_prm.engine.serve.routes", None)  # importing it raises ImportError
    app = FastAPI()
    routes = list(app.routes)
    PRMEndpoints().attach_router(app)
    assert app.routes == routes
    (sentence,) = warnings
    assert "could not add its routes" in sentence
    assert "`vllm-prm doctor` says what is missing" in sentence


@pytest.mark.parametrize(
    ("version", "says"),
    [(None, "vLLM is not installed"), ("0.34.0", "tested with vllm>=0.29,<0.34, not with the installed vLLM 0.34.0")],
)
def test_an_engine_is_not_started(installed, version, says):
    installed(version)
    for start in (lambda: PRM(TINY_PRM), lambda: engine_arguments([])):
        with pytest.raises(UnsupportedError, match=says) as error:
            start()
        assert "pip install 'vllm-prm[vllm]'" in str(error.value)


def test_doctor_without_vllm_fails_only_where_one_is_needed(installed, capsys):
    installed(None)
    assert main(["doctor"]) == 0
    assert "no vLLM is installed: clients, reports and evaluation by a server need none" in capsys.readouterr().out
    assert main(["doctor", "--model", TINY_PRM]) == 1
    assert "cannot be checked: vLLM is not installed" in capsys.readouterr().out


def test_doctor_says_of_another_version_what_the_plugin_says(installed, capsys):
    installed("0.34.0")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert f"FAIL  vllm 0.34.0: {compat.untested()}" in out
    assert "not hooked in a version that was not tested" in out
