"""LoRA adapters on the backbone score right, each request with its own; adapters on the head are refused."""

from __future__ import annotations

import random

import checkpoints
import pytest
import torch
from adapters import RANK, adapter, oracle_with
from checkpoints import save
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from transformers import LlamaConfig, LlamaForCausalLM
from vllm.lora.request import LoRARequest

BACKBONE = {
    f"model.layers.{layer}.{name}": size
    for layer in (0, 1)
    for name, size in (("self_attn.q_proj", (128, 128)), ("self_attn.v_proj", (64, 128)), ("mlp.down_proj", (128, 256)))
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    model = save(folder / "model", lambda: LlamaForCausalLM(LlamaConfig(**checkpoints.SMALL)))
    options = {
        "enable_lora": True,
        # A slot more than adapters: vLLM's CPU kernels take slot -1, which means "no adapter", as the last slot.
        "max_loras": 3,
        "max_lora_rank": RANK,
        "max_num_batched_tokens": 96,
        "enable_chunked_prefill": True,
    }
    with running(model, pooler_config=step_config(), **options) as llm:
        yield llm, model, folder


def test_two_adapters_and_the_base_model_in_one_batch(engine):
    llm, model, folder = engine
    one, two = (adapter(folder / name, seed, BACKBONE) for seed, name in enumerate(("one", "two")))
    oracles = [Oracle(model), oracle_with(model, folder / "m1", one), oracle_with(model, folder / "m2", two)]
    adapters = [None, LoRARequest("one", 1, str(folder / "one")), LoRARequest("two", 2, str(folder / "two"))]
    rng = random.Random(5)
    prompts = [prompt(rng, rng.choice((1, 3, 9))) for _ in range(12)]
    which = [i % 3 for i in range(len(prompts))]
    outputs = llm.encode(
        [tokens(ids) for ids in prompts],
        lora_request=[adapters[i] for i in which],
        pooling_task="embed",
        use_tqdm=False,
    )
    for ids, i, output in zip(prompts, which, outputs, strict=True):
        assert difference(output.outputs.data, oracles[i].probabilities(ids).flatten()) < TOLERANCE
        other = oracles[(i + 1) % 3].probabilities(ids).flatten()
        assert difference(output.outputs.data, other) > 100 * TOLERANCE, "the adapters do not differ"


@pytest.mark.parametrize("how", ["lora", "saved"])
def test_adapters_on_the_head_are_refused(engine, how):
    llm, model, folder = engine
    path = folder / f"head-{how}"
    if how == "lora":
        adapter(path, 3, {**BACKBONE, "lm_head": (32000, 128)})
    else:
        adapter(path, 3, BACKBONE, {"lm_head": torch.randn(32000, 128)})
    with pytest.raises(ValueError, match="lm_head|modules_to_save"):  # vLLM 0.29 refuses all that is saved, by itself
        llm.llm_engine.add_lora(LoRARequest(how, 9, str(path)))
    ids = prompt(random.Random(1), 4)
    (output,) = llm.encode([tokens(ids)], pooling_task="embed", use_tqdm=False)
    assert difference(output.outputs.data, Oracle(model).probabilities(ids).flatten()) < TOLERANCE
