"""`vllm-prm doctor`: what it says of a server, of a model's vocabulary, of the environment."""

from __future__ import annotations

import json

import pytest
from wire import RECIPE, speaking

from vllm_prm.cli import main


@pytest.fixture(scope="module")
def url():
    with speaking() as (address, _):
        yield address


def test_doctor_asks_a_server(url, capsys):
    def doctor(address):
        code = main(["doctor", "--server", address])
        return code, capsys.readouterr().out

    code, out = doctor(url)
    assert (code, out.count("FAIL")) == (0, 0)
    assert "is a process reward model, recipe tiny-prm; routes are on" in out
    with speaking(without=("/v1/prm/recipe",)) as (address, _):
        code, out = doctor(address)
    assert code == 1
    assert "FAIL" in out
    assert "has no route /v1/prm/recipe: serve with VLLM_PLUGINS=prm" in out
    code, out = doctor(address)  # it is gone now
    assert code == 1
    assert "does not answer" in out


def test_doctor_looks_into_the_vocabulary(capsys, tmp_path):
    tiny = str(RECIPE.parent)
    assert main(["doctor", "--model", tiny]) == 0
    assert "fits recipe tiny-prm: good ▁+, bad ▁-; its probe is split as in training" in capsys.readouterr().out
    wrong = json.loads(RECIPE.read_text("utf-8"))
    wrong["scoring_tokens"]["good"]["id"] = 12
    recipe_file = tmp_path / "mine.json"
    recipe_file.write_text(json.dumps(wrong))
    assert main(["doctor", "--model", tiny, "--recipe", str(recipe_file)]) == 1
    assert "'good' token '▁+' has id 332 in the served tokenizer, expected 12" in capsys.readouterr().out


def test_doctor_sees_that_the_plugin_is_left_out(monkeypatch, capsys):
    monkeypatch.setenv("VLLM_PLUGINS", "other")
    assert main(["doctor"]) == 1
    assert "FAIL  VLLM_PLUGINS='other' leaves prm out: add it: VLLM_PLUGINS=other,prm" in capsys.readouterr().out
