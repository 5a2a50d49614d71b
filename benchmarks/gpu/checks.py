"""The checks of scores on a GPU: the ways of vLLM that a CPU cannot run, on small checkpoints, against transformers.

Each takes an empty folder and gives its JSON answer. All but the one of Llama's defaults run eagerly.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu import checkpoints, entrances, modelopt
from gpu.findings import Findings, NotPossible, difference
from gpu.oracle import Expected, expected, load
from gpu.scoring import Answers, Scorer, prompts, scorer

Answer = dict[str, Any]
LENGTHS = [60, 700, 1500]  # tokens: within a block, and over many
# Rounding to FP8 makes a step of 6 % of a difference of 0.4 %, so bfloat16 and float32 are further apart: 0.011 in the
# mean and 0.04 at most, measured on a CPU with transformers alone.
FP8_MEAN, FP8_LARGEST = 0.04, 0.25
SAME_HEAD = 1e-3  # of a probability: the same hidden states by the same matrix, in float32 if vLLM has it so
CUDA = torch.cuda.is_available()


def llama_defaults(folder: Path) -> Answer:
    """vLLM's defaults, compiled where there is a GPU; cached scores against those of an engine without a cache."""
    findings, ids, required = _prepared(folder, checkpoints.llama)
    options = {"enforce_eager": not CUDA, "max_num_seqs": 256}  # vLLM's default: CUDA graphs of up to 512 tokens
    with scorer(folder, **options) as engine:
        cached = _twice(engine, ids, required, findings)
    with scorer(folder, **options, enable_prefix_caching=False) as engine:
        whole = engine.score(ids)
    findings.close("without a cache", whole.scores, required.scores)
    findings.close("cached, against without a cache", cached.scores, whole.scores)
    return findings.answer()


def flashinfer_blocks_of_128(folder: Path) -> Answer:
    """A block that is larger than those of the kernel, which then cuts it."""
    _needs_cuda()
    findings, ids, required = _prepared(folder, checkpoints.llama)
    with scorer(folder, block_size=128, attention_backend="FLASHINFER") as engine:
        findings.equal("block size", engine.block_size(), 128)
        _twice(engine, ids, required, findings)
    return findings.answer()


def two_gpus(folder: Path) -> Answer:
    """Tensor parallelism: each rank holds half of the output head."""
    if torch.cuda.device_count() < 2:
        raise NotPossible("needs two GPUs")
    findings, ids, required = _prepared(folder, checkpoints.llama)
    with scorer(folder, tensor_parallel_size=2) as engine:
        _twice(engine, ids, required, findings)
    return findings.answer()


def latent_attention(folder: Path) -> Answer:
    """MLA, as DeepSeek has it: keys and values of another shape, and kernels of their own."""
    findings, ids, required = _prepared(folder, checkpoints.mla)
    # On CPUs, vLLM's rotary kernel gives wrong numbers for MLA, those of PyTorch are right; one attention needs AMX.
    plain = {"attention_config": {"backend": "CPU_MLA"}, "compilation_config": {"custom_ops": ["none"]}}
    options = {} if CUDA else plain
    with scorer(folder, **options) as engine:
        _twice(engine, ids, required, findings)
    return findings.answer()


def sliding_window(folder: Path) -> Answer:
    """Mistral with its window, and prompts longer than it; on a CPU shorter ones only, whose attention is another."""
    lengths = [60, 1500, 5200, 6000] if CUDA else [60, 700]
    findings, ids, required = _prepared(folder, checkpoints.mistral, lengths)
    findings.note(window=checkpoints.WINDOW)
    with scorer(folder) as engine:
        _twice(engine, ids, required, findings)
    return findings.answer()


def batch_invariance(folder: Path) -> Answer:
    """VLLM_BATCH_INVARIANT=1, which plan.py sets: a prompt's scores are the same numbers alone and in a batch."""
    _needs_cuda()
    findings, ids, required = _prepared(folder, checkpoints.llama)
    with scorer(folder) as engine:
        together = engine.score(ids, skip_reading_prefix_cache=True).scores
        alone = [engine.score([each], skip_reading_prefix_cache=True).scores[0] for each in ids]
        findings.equal("alone, against in a batch", difference(alone, together).max().item(), 0.0)
        assert engine.llm.reset_prefix_cache()
        _twice(engine, ids, required, findings)
    return findings.answer()


def modelopt_fp8(folder: Path) -> Answer:
    """Matrices in FP8, the head in bfloat16: of the head, the scoring columns alone are computed."""
    _needs_cuda()
    findings = Findings(mean=FP8_MEAN, largest=FP8_LARGEST)
    ids = prompts(LENGTHS)
    model = modelopt.save(folder / "model", ids[-1])
    if torch.cuda.get_device_capability() < (8, 9):  # FP8 kernels since Ada; before, activations stay in bfloat16
        modelopt.without_activation_rounding(model)
    required = expected(model.to("cuda"), ids)
    findings.sharp(required)
    with scorer(folder / "model") as engine:
        findings.equal("whole head because", engine.whole_head_because(), None)
        _twice(engine, ids, required, findings)
        pairs = [engine.score_beside_whole_head(each) for each in ids]
    by_columns, by_whole_head = ([pair[number] for pair in pairs] for number in (0, 1))
    findings.close("by the whole head", by_columns, by_whole_head, mean=SAME_HEAD, largest=SAME_HEAD)
    return findings.answer()


CHECKS: dict[str, Callable[[Path], Answer]] = {
    "llama": llama_defaults,
    "served": entrances.served,
    "generating": entrances.generating,
    "flashinfer": flashinfer_blocks_of_128,
    "tp2": two_gpus,
    "mla": latent_attention,
    "mistral": sliding_window,
    "invariant": batch_invariance,
    "modelopt": modelopt_fp8,
}


def _needs_cuda() -> None:
    if not CUDA:
        raise NotPossible("needs CUDA")


def _prepared(
    folder: Path, build: Callable[[], Any], lengths: list[int] | None = None
) -> tuple[Findings, list[list[int]], Expected]:
    """The checkpoint in `folder`; prompts of these lengths, and what transformers says of them."""
    findings, ids = Findings(), prompts(lengths or LENGTHS)
    checkpoints.save(folder, build)
    required = expected(load(folder), ids)
    findings.sharp(required)
    return findings, ids, required


def _twice(engine: Scorer, ids: list[list[int]], required: Expected, findings: Findings) -> Answers:
    """Score the prompts, and once more from the cache: all whole blocks but one that would leave nothing to do."""
    block = engine.block_size()
    first, again = engine.score(ids), engine.score(ids)
    reused = [(len(each) - 1) // block * block for each in ids]
    if not CUDA and not engine.caches_prefixes():  # vLLM turns it off for MLA on CPUs
        reused = [0] * len(ids)
    findings.note(block=block, prompts=list(map(len, ids)))
    findings.equal("cached at first", first.cached, [0] * len(ids))
    findings.equal("cached again", again.cached, reused)
    findings.close("at first", first.scores, required.scores)
    findings.close("again", again.scores, required.scores)
    runner = engine.runner()
    findings.note(runner=runner)
    if CUDA:  # every vLLM of the range takes it there for pooling models (vllm/config/vllm.py, use_v2_model_runner)
        findings.equal("runner", runner, "V2")
    return again
