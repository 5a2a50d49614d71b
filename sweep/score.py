"""One architecture: a small engine with random weights, its step scores, and the same model's whole head.

The reference does not go through the pooler: a hook keeps every row of hidden states that the pooler was given, the
full `compute_logits` runs on the rows of the step tags afterwards, and the scoring columns are picked from it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

TAG, SCORING = 7, (11, 902, 35)  # ids of the small vocabulary; 902 lies in its last, padded tile
STEPS = (1, 2, 5, 9)
LIMIT = {"float32": 1e-5, "bfloat16": 5e-3}
SPREAD = 0.1  # logits must differ by more than this, across tags and across tokens, or an error could hide


def nontrivial_weights() -> None:
    """Make `load_format="dummy"` write weights under which errors show; vLLM's own are below 1e-3."""
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    def load_weights(self: Any, model: torch.nn.Module, model_config: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        kept = model.state_dict(keep_vars=True)
        buffers = [(name, buffer) for name, buffer in model.named_buffers() if name in kept]
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
    rng = random.Random(0)
    made = []
    for steps in STEPS:
        ids = [rng.randrange(100, 900) for _ in range(6)]
        for _ in range(steps):
            ids += [*(rng.randrange(100, 900) for _ in range(rng.randint(0, 8))), TAG]
        made.append(ids)
    return [*made, [TAG, TAG, 150, TAG]]


def score(folder: str, dtype: str, options: dict[str, Any]) -> dict[str, Any]:
    """Run the model in `folder`; the measured differences, and under "why" what is wrong with them, if anything."""
    with engine(folder, dtype, options) as llm:
        rows: list[torch.Tensor] = []

        def keep(_: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            rows.append((args[0] if args else kwargs["hidden_states"]).clone())

        (hook,) = llm.apply_model(lambda model: model.pooler.register_forward_pre_hook(keep, with_kwargs=True))
        probabilities, logits, expected = [], [], []
        for ids in prompts():
            rows.clear()
            probabilities += encode(llm, [ids], activated=True)
            hidden = torch.cat(rows)[[i for i, id_ in enumerate(ids) if id_ == TAG]]
            expected += llm.apply_model(lambda model, hidden=hidden: model.compute_logits(hidden).float())
            logits += encode(llm, [ids], activated=False)
        hook.remove()
        together = encode(llm, prompts(), activated=True)
        (head,) = llm.apply_model(lambda model: model.pooler.head.whole_because or "columns")
    columns = torch.cat(expected)[:, list(SCORING)]
    measured = {
        "head": head,
        "spread": min(columns.std(0).mean().item(), columns.std(1).mean().item()),
        "difference": _apart(probabilities, columns.softmax(-1)),
        "logit_difference": _apart(logits, columns),
        "batch_difference": _apart(together, columns.softmax(-1)),
    }
    return {**measured, **_verdict(measured, LIMIT[dtype])}


def _verdict(measured: dict[str, Any], limit: float) -> dict[str, str]:
    if not measured["spread"] > SPREAD:  # also if they are not finite
        return {"why": f"its logits differ by {measured['spread']:.2g}, too little to show an error"}
    for name in ("difference", "logit_difference"):
        if not measured[name] <= limit:
            return {"why": f"{name} {measured[name]:.2g}, allowed {limit:.0e}"}
    return {}


@contextmanager
def engine(folder: str, dtype: str, options: dict[str, Any]) -> Iterator[Any]:
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
    """[steps, scoring tokens] for each prompt."""
    from vllm import PoolingParams

    asked = [{"prompt_token_ids": ids} for ids in batch]
    params = PoolingParams(use_activation=activated)
    outputs = llm.encode(asked, params, pooling_task="embed", use_tqdm=False)
    return [output.outputs.data.view(-1, len(SCORING)) for output in outputs]


def _apart(found: list[torch.Tensor], expected: torch.Tensor) -> float:
    all_found = torch.cat(found)
    if all_found.shape != expected.shape:
        raise RuntimeError(f"{list(all_found.shape)} scores came back, expected {list(expected.shape)}")
    return (all_found - expected).abs().max().item()
