"""An engine of ours as the checks ask it: scores of prompts, tokens from the cache, which of vLLM's runners ran."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from workloads import Writer

from gpu.checkpoints import TOKENS
from gpu.oracle import Scores, tags
from sweep import small_engine

KV_BYTES = 4 << 30  # said, because vLLM's own measuring fails if another process gives memory back meanwhile
CUDA_SHARE = 0.3  # of the GPU's memory: an engine beside the oracle, and beside an engine that is just ending


@dataclass(frozen=True)
class Answers:
    """scores: per prompt [steps, scoring tokens], probabilities. cached: per prompt, tokens that were not computed."""

    scores: Scores
    cached: list[int]


@dataclass(frozen=True)
class Scorer:
    llm: Any

    def score(self, prompts: list[list[int]], **params: Any) -> Answers:
        from vllm import PoolingParams

        batch = [{"prompt_token_ids": ids} for ids in prompts]
        outputs = self.llm.encode(batch, PoolingParams(**params), pooling_task="embed", use_tqdm=False)
        scores = [output.outputs.data.view(-1, len(TOKENS.scoring)).float().cpu() for output in outputs]
        return Answers(scores, [output.num_cached_tokens or 0 for output in outputs])

    def score_beside_whole_head(self, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities [steps, scoring tokens]: ours, and by the model's own whole head on the same hidden states."""
        hidden_rows: list[torch.Tensor] = []

        def keep_rows(_: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            hidden_rows.append((args[0] if args else kwargs["hidden_states"]).clone())

        (hook,) = self.llm.apply_model(
            lambda model: model.pooler.register_forward_pre_hook(keep_rows, with_kwargs=True)
        )
        answers = self.score([ids], skip_reading_prefix_cache=True)
        hook.remove()
        hidden = torch.cat(hidden_rows)[tags(ids)]
        (logits,) = self.llm.apply_model(lambda model: model.compute_logits(hidden))
        return answers.scores[0], logits[:, list(TOKENS.scoring)].float().softmax(-1).cpu()

    def block_size(self) -> int:
        return self.llm.llm_engine.vllm_config.cache_config.block_size

    def caches_prefixes(self) -> bool:
        return bool(self.llm.llm_engine.vllm_config.cache_config.enable_prefix_caching)

    def runner(self) -> str:
        """V1 or V2, by the class that ran."""
        return self.llm.collective_rpc(_runner)[0]

    def whole_head_because(self) -> str | None:
        """Why this engine computes its whole head; None if the scoring columns do, as they should."""
        return self.llm.apply_model(_whole_head_because)[0]


def _runner(worker: Any) -> str:
    worker = getattr(worker, "worker", worker)  # some executors hand over a wrapper
    names = {cls.__module__ for cls in type(worker.model_runner).__mro__}
    return "V2" if "vllm.v1.worker.gpu.model_runner" in names else "V1"


def _whole_head_because(model: Any) -> str | None:
    return model.pooler.head.whole_because


def memory() -> dict[str, Any]:
    """Options that keep an engine small on a GPU."""
    if not torch.cuda.is_available():
        return {}
    return {"gpu_memory_utilization": CUDA_SHARE, "kv_cache_memory_bytes": KV_BYTES}


@contextmanager
def scorer(folder: Path, **options: Any) -> Iterator[Scorer]:
    """An engine in this process; `options` come last. Eager, because compiling takes longer than a check."""
    from vllm.config import PoolerConfig

    step = PoolerConfig(pooling_type="STEP", step_tag_id=TOKENS.tag, returned_token_ids=list(TOKENS.scoring))
    defaults = {"load_format": "auto", "pooler_config": step, "max_model_len": 8192, "enable_prefix_caching": True}
    defaults |= memory()
    with small_engine.engine(str(folder), "bfloat16", {**defaults, **options}) as llm:
        yield Scorer(llm)


def prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Random words in steps of 15 tokens; each prompt ends with a step."""
    writer = Writer(seed, TOKENS.tag)
    made = []
    for length in lengths:
        ids = writer.words(length % 15 + 15)
        while len(ids) < length:
            ids += writer.step(15)
        made.append(ids)
    return made
