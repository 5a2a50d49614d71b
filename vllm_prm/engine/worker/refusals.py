"""What cannot be served is refused here, and what works otherwise than one would expect is said here.

All of it is decided in the worker, while the model is built: only there are the model's class and layers known. What a
single request asks for is refused in the front end (`start/requests.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vllm.v1.kv_cache_interface import AttentionSpec

from vllm_prm.engine.worker.layers import kv_cache_specs
from vllm_prm.errors import RecipeError, UnsupportedError

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_CANNOT = "this engine cannot serve a process reward model"


def refuse_configuration(vllm_config: VllmConfig, model_cls: type) -> None:
    """Raise UnsupportedError for models and engine settings under which a score would be wrong or missing."""
    reasons = [*_of_the_model(vllm_config, model_cls), *_of_parallelism(vllm_config), *_of_other_settings(vllm_config)]
    if reasons:
        raise UnsupportedError(f"{_CANNOT}: " + "; ".join(reasons))


def _of_the_model(vllm_config: VllmConfig, model_cls: type) -> Iterator[str]:
    model_config = vllm_config.model_config
    if model_config.is_encoder_decoder:
        yield "an encoder-decoder model reads the prompt in its encoder, where no step has a next token"
    if model_config.is_diffusion:
        yield "a diffusion model fills in many tokens at once, so a step tag has no next token to score"
    if getattr(model_cls, "supports_realtime", False):
        yield "a realtime model takes audio and text in step with each other, not a finished prompt"
    elif getattr(model_cls, "supports_transcription_only", False):
        yield "a model that only transcribes audio does not read reasoning steps"
    if model_config.attn_type == "encoder_only":
        yield from _of_two_way_attention(vllm_config)


def _of_two_way_attention(vllm_config: VllmConfig) -> Iterator[str]:
    """vLLM starts such a model with neither, but lets both be turned on (and --task does, for a STEP pooler config)."""
    if vllm_config.cache_config.enable_prefix_caching:
        yield (
            "in this model a token attends to those after it, so what is cached of a prefix does not hold for a "
            "longer prompt; add --no-enable-prefix-caching"
        )
    if vllm_config.scheduler_config.enable_chunked_prefill:
        yield (
            "in this model a token attends to those after it, so vLLM never ends a prompt that is computed in pieces; "
            "add --no-enable-chunked-prefill"
        )


def _of_parallelism(vllm_config: VllmConfig) -> Iterator[str]:
    parallel_config = vllm_config.parallel_config
    if parallel_config.prefill_context_parallel_size > 1:
        yield (
            "prefill context parallelism leaves each rank with a part of the prompt's hidden states; "
            "drop --prefill-context-parallel-size"
        )
    if parallel_config.decode_context_parallel_size > 1:
        yield (
            "decode context parallelism spreads a prompt's KV slots over ranks, so the scores of cached positions "
            "would be those of other tokens; drop --decode-context-parallel-size"
        )
    if parallel_config.use_ubatching:
        yield (
            "microbatches prepare the KV slots of a part of the batch at a time, so scores would go to other tokens' "
            "slots; drop --enable-dbo and --ubatch-size"
        )


def _of_other_settings(vllm_config: VllmConfig) -> Iterator[str]:
    model_config = vllm_config.model_config
    if any("lm_head" in name for name in getattr(vllm_config.lora_config, "target_modules", None) or ()):
        yield "LoRA on the output head is not applied to scores; take lm_head out of --lora-target-modules"
    if vllm_config.kv_transfer_config is not None:
        yield (
            "a KV connector (--kv-transfer-config) hands over prompt tokens that this engine never computes, "
            "so the steps among them would have no score; drop that flag"
        )
    if getattr(vllm_config.cache_config, "kv_sharing_fast_prefill", False):
        yield "--kv-sharing-fast-prefill computes full hidden states for the last prompt token only; drop that flag"
    if model_config.enable_prompt_embeds:
        yield (
            "prompt embeddings (--enable-prompt-embeds) have no token ids, so their step tags cannot be found; "
            "drop that flag and send text or token ids"
        )
    if getattr(model_config.pooler_config, "enable_chunked_processing", False):
        yield (
            "enable_chunked_processing in --pooler-config averages the results of a long prompt's pieces, and an "
            "average of step scores is no score; take it out, and raise --max-model-len instead"
        )


def refuse_head(head: str, model_cls: type, possible: tuple[str, ...]) -> None:
    """Raise RecipeError unless a model of this class has the head that the recipe reads. possible: those it has."""
    if head in possible:
        return
    if possible == ("own",):
        raise RecipeError(
            f"{model_cls.__name__} has a head of its own, but the recipe reads its {head}; "
            'give a recipe with "head": "own"'
        )
    if head == "own":
        raise RecipeError(
            f"the recipe reads a head of the model's own, but {model_cls.__name__} generates text and has none; serve "
            "the reward model that the recipe was written for, or a recipe for its lm_head"
        )
    raise RecipeError(f"{model_cls.__name__} is scored by its lm_head only, but the recipe reads {head}")


def refuse_prompts_that_never_start(vllm_config: VllmConfig) -> None:
    """Raise UnsupportedError where a prompt may be longer than the batch that it must fit into.

    A layer that reads prompts two-way (a prefix LM's) makes vLLM turn chunked prefill off, but only when it has the
    layers, after it looked whether a batch has room for the longest prompt. It would wait for a longer one forever.
    """
    batch, longest = vllm_config.scheduler_config.max_num_batched_tokens, vllm_config.model_config.max_model_len
    if batch < longest and any(getattr(spec, "non_causal", False) for spec in kv_cache_specs(vllm_config).values()):
        raise UnsupportedError(
            f"{_CANNOT}: the tokens of a prompt attend to each other both ways in this model, so vLLM computes a "
            f"prompt in one batch, and one longer than {batch} tokens would wait forever; add --max-num-batched-tokens "
            f"{longest}, or --max-model-len {batch}"
        )


def refuse_unpaged_layers(specs: Mapping[str, Any]) -> None:
    """Raise UnsupportedError if a layer does not store its state in paged slots: no slot of ours would go with it.

    specs: the model's KV-cache specs, by layer.
    """
    for name, spec in specs.items():
        if not isinstance(spec, AttentionSpec):
            raise UnsupportedError(
                f"layer {name} of this model keeps {type(spec).__name__}, not paged keys and values, so the scores of "
                "cached positions cannot be kept beside it; start with --no-enable-prefix-caching"
            )


def cautions(vllm_config: VllmConfig) -> list[str]:
    """Sentences about this engine's settings, each with what to do; mostly none."""
    from vllm.platforms import current_platform

    sentences = []
    if vllm_config.lora_config is not None and current_platform.is_cpu():
        sentences.append(
            "LoRA on a CPU: in a batch that mixes requests with and without an adapter, vLLM's CPU kernels give those "
            "without one the adapter of the last slot, so their scores would be wrong. Start with --max-loras one "
            f"higher than the number of adapters you load (it is {vllm_config.lora_config.max_loras} now), which "
            "leaves the last slot empty."
        )
    return sentences
