"""A small engine with random weights, the prompts that it is given, and what it answers.

Knows nothing of what the answers are compared with. Weights and prompts are the same in every process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

TAG, SCORING = 7, (11, 902, 35)  # ids of the small vocabulary; 902 lies in its last, padded tile
STEP_COUNTS = (1, 2, 5, 9)  # of the prompts, one each


def nontrivial_weights() -> None:
    """Make `load_format="dummy"` write weights under which errors show; vLLM's own are below 1e-3."""
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    def load_weights(self: Any, model: torch.nn.Module, model_config: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        state = model.state_dict(keep_vars=True)
        buffers = [(name, buffer) for name, buffer in model.named_buffers() if name in state]
        for name, tensor in [*model.named_parameters(), *buffers]:
            if tensor.is_floating_point() and not tensor.is_meta:
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
                tensor.data.copy_(_weights(name.rsplit(".", 1)[-1], noise))

    DummyModelLoader.load_weights = load_weights


def _weights(name: str, noise: torch.Tensor) -> torch.Tensor:
    if name == "A":  # decay of a state-space layer: negative, or the state explodes
        return -noise.abs()
    if noise.ndim < 2:  # norm weights around one, biases around zero
        return noise * 0.1 + (0.0 if "bias" in name else 1.0)
    return noise / noise.shape[-1] ** 0.5  # keeps the size of what it multiplies


def inspect_models_here() -> None:
    """Look at model classes in this process; vLLM starts another one for each, to keep CUDA out of this."""
    from vllm.model_executor.models.registry import _LazyRegisteredModel, _ModelInfo

    _LazyRegisteredModel.inspect_model_cls = lambda self: _ModelInfo.from_model_cls(self.load_model_cls())


def prompts() -> list[list[int]]:
    """Token ids, with TAG at the end of each step."""
    rng = random.Random(0)
    by_step_count = []
    for steps in STEP_COUNTS:
        ids = [rng.randrange(100, 900) for _ in range(6)]
        for _ in range(steps):
            ids += [*(rng.randrange(100, 900) for _ in range(rng.randint(0, 8))), TAG]
        by_step_count.append(ids)
    return [*by_step_count, [TAG, TAG, 150, TAG]]


@contextmanager
def engine(folder: str, dtype: str, options: dict[str, Any]) -> Iterator[Any]:
    """A PRM engine of the checkpoint in `folder`; `options` come last, so they may make it another engine."""
    from vllm import LLM
    from vllm.config import PoolerConfig
    from vllm.distributed import cleanup_dist_env_and_memory

    step = PoolerConfig(pooling_type="STEP", step_tag_id=TAG, returned_token_ids=list(SCORING))
    prm = {"runner": "pooling", "convert": "embed", "load_format": "dummy", "pooler_config": step}
    small = {"max_model_len": 256, "max_num_seqs": 8, "enforce_eager": True, "dtype": dtype}
    llm = None
    try:
        llm = LLM(folder, **{**prm, **small, **options})
        yield llm
    finally:
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
        del llm
        cleanup_dist_env_and_memory()


def encode(llm: Any, batch: list[list[int]], activated: bool) -> list[torch.Tensor]:
    """[steps, scoring tokens] for each prompt: probabilities if `activated`, else logits."""
    from vllm import PoolingParams

    params = PoolingParams(use_activation=activated)
    outputs = llm.encode([{"prompt_token_ids": ids} for ids in batch], params, pooling_task="embed", use_tqdm=False)
    return [output.outputs.data.view(-1, len(SCORING)) for output in outputs]
