"""`vllm-prm serve`: what it makes of a line. tests/conftest.py starts a server with it."""

from __future__ import annotations

import os
import sys

import pytest

from vllm_prm.cli import main, serve


@pytest.fixture
def started(monkeypatch):
    """What would be started: the arguments of execve."""
    calls = []

    def execve(*call):
        calls.append(call)
        raise SystemExit(0)  # the real one does not return either

    monkeypatch.setattr(os, "execve", execve)
    return calls


@pytest.mark.parametrize(
    "words",
    [
        ["--prm", "math-psa"],
        ["--prm=math-psa", "--runner", "generate"],
        ["--task", "reward"],
        ["--runner=pooling", "--convert", "embed"],
    ],
)
def test_a_line_that_says_its_kind_keeps_it(words):
    assert serve.served(["model", *words]) == ["model", *words]


def test_every_word_is_vllms(started, monkeypatch, capsys):
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    words = ["--port", "9000", "some/model", "--server", "-q", "--served-model-name", "a", "b"]
    with pytest.raises(SystemExit):
        main(["serve", *words])
    ((program, command, environment),) = started
    assert program == sys.executable
    assert command[-len(words) - 3 :] == ["serve", *words, "--task", "embed"]
    assert "prm" in environment["VLLM_PLUGINS"].split(",")
    said = capsys.readouterr().err
    assert "vllm serve --port 9000 some/model" in said
    assert "http://localhost:9000/prm" in said


def test_no_plugin_is_switched_off(monkeypatch):
    """Those of general_plugins and the like are on without the variable; endpoint plugins of others stay off."""
    points = {"vllm.general_plugins": ["prm", "other"], "vllm.endpoint_plugins": ["prm", "theirs"]}

    def entry_points(group):
        return [type("Point", (), {"name": name}) for name in points.get(group, [])]

    monkeypatch.setattr(serve, "entry_points", entry_points)
    assert serve.allowed({}) == "prm,other"
    assert serve.allowed({"VLLM_PLUGINS": "third"}) == "prm,third"
    assert serve.allowed({"VLLM_PLUGINS": ""}) == "prm"
    assert serve.allowed({"VLLM_PLUGINS": "third,prm"}) == "prm,third"


def test_vllms_own_plugins_are_among_them(monkeypatch):
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    assert {"prm", "lora_filesystem_resolver"} <= {*serve.allowed(os.environ).split(",")}


@pytest.mark.parametrize(
    ("words", "port"), [(["m"], "8000"), (["m", "--port", "1"], "1"), (["--port=2", "m"], "2"), (["--port"], "")]
)
def test_the_page_is_where_the_server_listens(words, port):
    assert serve.port(words) == port


def test_a_model_is_needed(started, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve"])
    assert ended.value.code == 2
    assert "which model?" in capsys.readouterr().err
    assert started == []


def test_help_is_ours(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    assert ended.value.code == 0
    assert "usage: vllm-prm serve MODEL [any option of vllm serve]" in capsys.readouterr().out
