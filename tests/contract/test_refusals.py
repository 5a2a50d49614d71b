"""What cannot be a process reward model is refused when the engine starts, by a sentence that says why."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest
from conftest import TINY_PRM, step_config
from vllm.config import CacheConfig, KVTransferConfig, LoRAConfig, ModelConfig, ParallelConfig
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.registry import _LazyRegisteredModel, _ModelInfo
from vllm.platforms import current_platform

from sweep import configs
from vllm_prm.engine.worker.refusals import cautions, refuse_configuration
from vllm_prm.errors import UnsupportedError


def engine_config(**parts):
    """The parts of a VllmConfig that are looked at; whichever are not given are vLLM's own defaults."""
    defaults = {"parallel_config": ParallelConfig(), "cache_config": CacheConfig(), "lora_config": None}
    defaults["scheduler_config"] = SimpleNamespace(enable_chunked_prefill=True)
    if "model_config" not in parts:
        parts["model_config"] = model_config(TINY_PRM)
    return SimpleNamespace(**{**defaults, "kv_transfer_config": None, **parts})


def model_config(folder, **options):
    pooling = {"runner": "pooling", "convert": "embed", "pooler_config": step_config(), "max_model_len": 128}
    return ModelConfig(model=str(folder), **{**pooling, "dtype": "float32", **options})


def parallel(**sizes):
    """vLLM's own, without the checks of a whole configuration, which wants as many GPUs."""
    config = ParallelConfig()
    for name, size in sizes.items():
        setattr(config, name, size)
    return config


@pytest.fixture
def small(tmp_path, monkeypatch):
    """small("WhisperForConditionalGeneration") -> the ModelConfig of a small one, and the class."""
    # vLLM starts a process for each look at a class, to keep CUDA out of this one.
    monkeypatch.setattr(
        _LazyRegisteredModel, "inspect_model_cls", lambda self: _ModelInfo.from_model_cls(self.load_model_cls())
    )

    def made(architecture, module):
        configs.write(architecture, str(tmp_path))
        model_cls = getattr(import_module(f"vllm.model_executor.models.{module}"), architecture)
        return model_config(tmp_path), model_cls

    return made


def refused(config, model_cls=LlamaForCausalLM) -> str:
    with pytest.raises(UnsupportedError) as caught:
        refuse_configuration(config, model_cls)
    assert str(caught.value).startswith("this engine cannot serve a process reward model: ")
    return str(caught.value)


def test_a_plain_engine_is_not_refused():
    refuse_configuration(engine_config(), LlamaForCausalLM)


def test_encoder_decoder(small):
    config, model_cls = small("WhisperForConditionalGeneration", "whisper")
    assert "an encoder-decoder model reads the prompt in its encoder" in refused(
        engine_config(model_config=config), model_cls
    )


def test_realtime():
    from vllm.model_executor.models.voxtral_realtime import VoxtralRealtimeGeneration

    assert "a realtime model takes audio and text in step" in refused(engine_config(), VoxtralRealtimeGeneration)


def test_transcription_only():
    from vllm.model_executor.models.fireredasr2 import FireRedASR2ForConditionalGeneration

    said = refused(engine_config(), FireRedASR2ForConditionalGeneration)
    assert "a model that only transcribes audio does not read reasoning steps" in said


def test_diffusion():
    """vLLM knows a diffusion model by the length of its canvas, in its config."""
    config = model_config(TINY_PRM, hf_overrides={"canvas_length": 64})
    assert config.is_diffusion
    assert "a diffusion model fills in many tokens at once" in refused(engine_config(model_config=config))


@pytest.mark.parametrize(
    ("part", "value", "flag"),
    [
        ("parallel_config", parallel(prefill_context_parallel_size=2), "--prefill-context-parallel-size"),
        ("parallel_config", parallel(decode_context_parallel_size=2), "--decode-context-parallel-size"),
        ("parallel_config", parallel(enable_dbo=True), "--enable-dbo"),
        ("parallel_config", parallel(ubatch_size=2), "--ubatch-size"),
        ("lora_config", LoRAConfig(target_modules=["q_proj", "lm_head"]), "--lora-target-modules"),
        ("kv_transfer_config", KVTransferConfig(kv_connector="c", kv_role="kv_both"), "--kv-transfer-config"),
        ("cache_config", SimpleNamespace(kv_sharing_fast_prefill=True), "--kv-sharing-fast-prefill"),
    ],
)
def test_a_setting_is_refused_by_its_flag(part, value, flag):
    assert flag in refused(engine_config(**{part: value}))


def test_the_average_of_a_prompts_pieces():
    config = model_config(TINY_PRM, pooler_config=step_config(enable_chunked_processing=True))
    assert "enable_chunked_processing" in refused(engine_config(model_config=config))


def test_prompt_embeddings():
    config = model_config(TINY_PRM, enable_prompt_embeds=True)
    assert "--enable-prompt-embeds" in refused(engine_config(model_config=config))


def test_two_way_attention():
    """vLLM's own defaults for such a model are neither prefix caching nor chunked prefill."""
    config = model_config(TINY_PRM, hf_overrides={"is_causal": False})
    said = refused(engine_config(model_config=config))
    assert "--no-enable-prefix-caching" in said
    assert "--no-enable-chunked-prefill" in said
    neither = {
        "cache_config": CacheConfig(enable_prefix_caching=False),
        "scheduler_config": SimpleNamespace(enable_chunked_prefill=False),
    }
    refuse_configuration(engine_config(model_config=config, **neither), LlamaForCausalLM)


def test_every_reason_is_given_at_once():
    said = refused(
        engine_config(
            lora_config=LoRAConfig(target_modules=["lm_head"]),
            cache_config=SimpleNamespace(kv_sharing_fast_prefill=True),
        )
    )
    assert "--lora-target-modules" in said
    assert "--kv-sharing-fast-prefill" in said


class TestCautions:
    def test_lora_on_a_cpu(self):
        assert current_platform.is_cpu(), "this test is about vLLM's CPU build"
        (said,) = cautions(engine_config(lora_config=LoRAConfig(max_loras=2)))
        assert "--max-loras one higher" in said
        assert "(it is 2 now)" in said

    def test_nothing_to_say_without_lora(self):
        assert cautions(engine_config()) == []
