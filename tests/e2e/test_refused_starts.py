"""An engine that cannot score steps does not start, and says why, instead of failing at the first request."""

from __future__ import annotations

import pytest
from conftest import TINY_PRM, running, step_config

from sweep import configs
from vllm_prm.errors import UnsupportedError


def test_an_encoder_decoder_does_not_start(tmp_path):
    configs.write("WhisperForConditionalGeneration", str(tmp_path))
    options = {"load_format": "dummy", "max_model_len": 128, "language_model_only": True}
    step = step_config(step_tag_id=7, returned_token_ids=[11, 35])
    with (
        pytest.raises(UnsupportedError, match="an encoder-decoder model reads the prompt in its encoder"),
        running(str(tmp_path), pooler_config=step, **options),
    ):
        pass


def test_adapters_on_the_head_do_not_start():
    head = {"lora_target_modules": ["q_proj", "lm_head"]}
    with (
        pytest.raises(UnsupportedError, match="take lm_head out of --lora-target-modules"),
        running(TINY_PRM, pooler_config=step_config(), enable_lora=True, max_model_len=128, **head),
    ):
        pass
