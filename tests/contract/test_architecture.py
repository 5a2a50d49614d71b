"""Which class a checkpoint with a linear head is loaded as: by vLLM's table of suffixes, from its config.json."""

from __future__ import annotations

import json

import pytest
from vllm.engine.arg_utils import EngineArgs

from vllm_prm.engine.start.architecture import generation_class, name_architecture


@pytest.mark.parametrize(
    ("named", "loaded_as"),
    [
        (["Qwen2ForTokenClassification"], "Qwen2ForCausalLM"),
        (["MistralForTokenClassification"], "MistralForCausalLM"),
        (["Gemma3ForTokenClassification"], "Gemma3ForCausalLM"),
        (["GPT2ForTokenClassification"], "GPT2LMHeadModel"),
        (["LlamaForSequenceClassification"], "LlamaForCausalLM"),
        (["Qwen2ForCausalLM"], None),
        (["ReasonEval_7B"], None),
        (["NobodysForTokenClassification"], None),
        ([], None),
    ],
)
def test_the_generation_class_of_a_name(named, loaded_as):
    assert generation_class(named) == loaded_as


def options(folder, overrides):
    config = {"architectures": ["Qwen2ForTokenClassification"], "model_type": "qwen2"}
    (folder / "config.json").write_text(json.dumps(config))
    engine_args = EngineArgs(model=str(folder), hf_overrides=overrides)
    name_architecture(engine_args)
    return engine_args.hf_overrides


def test_a_class_is_named_where_the_recipe_or_its_head_asks_for_it(tmp_path):
    named = {"architectures": ["Qwen2ForCausalLM"]}
    assert options(tmp_path, {"prm": "trl-prm"}) == {"prm": "trl-prm", **named}
    assert options(tmp_path, {"prm": "math-shepherd"}) == {"prm": "math-shepherd"}
    assert options(tmp_path, {}) == {}
    assert options(tmp_path, {"prm": "reasoneval"})["architectures"] == ["MistralForCausalLM"]
    own = {"prm": "trl-prm", "architectures": ["Mine"]}
    assert options(tmp_path, own) == own


def test_a_folder_without_a_config_is_left_to_vllm(tmp_path):
    engine_args = EngineArgs(model=str(tmp_path), hf_overrides={"prm": "trl-prm"})
    name_architecture(engine_args)
    assert engine_args.hf_overrides == {"prm": "trl-prm"}
