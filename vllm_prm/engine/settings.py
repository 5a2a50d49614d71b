"""Whether an engine is a PRM, and what it reads then.

Decided from vLLM's own ModelConfig alone, so that the front end (which checks requests) and every worker
(which scores them) come to the same answer without talking to each other. Two ways make an engine a PRM, both
on top of `runner=pooling, convert=embed`:

* `hf_overrides={"prm": ...}` (what `--task embed`, `--prm` and PRM set): a recipe, as a name, file or JSON;
* `pooler_config` with STEP pooling, `step_tag_id` and `returned_token_ids`: vLLM's own flags, no recipe.

Everything else stays vLLM's own embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vllm_prm.errors import RecipeError, RequestError, UnsupportedError
from vllm_prm.recipes import Recipe, load_recipe

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig

OVERRIDE = "prm"  # the key in hf_overrides that carries the recipe
TASKS = ("embed", "token_classify")


@dataclass(frozen=True)
class StepSettings:
    """What a PRM engine reads when a request does not say otherwise.

    step_tags: token sequences; any of them ends a step.
    scoring_ids: rows of the output head, or columns of the model's own output (`head`).
    weights: of each scoring id in the step score; None without a recipe (then all probabilities are returned).
    offset: position read, relative to the last token of the tag.
    head, activation: as in `recipes.Recipe`.
    """

    step_tags: tuple[tuple[int, ...], ...]
    scoring_ids: tuple[int, ...]
    weights: tuple[float, ...] | None = None
    offset: int = 0
    head: str = "lm_head"
    activation: str = "softmax"


def recipe_of(model_config: ModelConfig) -> Recipe | None:
    """The recipe this engine was started with; None if it has none."""
    spec = getattr(model_config.hf_config, OVERRIDE, None)
    if spec is None:
        return None
    return _load_once(spec) if isinstance(spec, str) else load_recipe(spec)


_load_once = lru_cache(maxsize=8)(load_recipe)  # asked once per request, and always the same


def is_prm(model_config: ModelConfig) -> bool:
    """True if this engine scores steps; False leaves everything to vLLM."""
    if model_config.runner_type != "pooling" or model_config.convert_type != "embed":
        return False
    pooler = model_config.pooler_config
    if pooler is None or pooler.task not in (None, *TASKS):
        return False
    if getattr(model_config.hf_config, OVERRIDE, None) is not None:
        return True
    # A reward model that vLLM pools by STEP itself has a head of its own, and needs no plugin unless a recipe says so.
    return pooler.tok_pooling_type == "STEP" and not _is_pooling_model(model_config)


def _is_pooling_model(model_config: ModelConfig) -> bool:
    architectures = getattr(model_config.hf_config, "architectures", None) or []
    return model_config.registry.is_pooling_model(architectures, model_config)


def keeps_scores(model_config: ModelConfig) -> bool:
    """True if this PRM keeps the scores of cached positions, so that its requests may read vLLM's prefix cache.

    They are kept as one more layer of paged KV. Recurrent states are not paged by token, so hybrid and
    attention-free models have none, and their requests compute every token.
    """
    return not (model_config.is_hybrid or model_config.is_attention_free or model_config.is_encoder_decoder)


def flag_settings(model_config: ModelConfig) -> StepSettings:
    """Settings from vLLM's own pooler-config. Raises RecipeError if it does not say what to read."""
    pooler = model_config.pooler_config
    missing = [name for name in ("step_tag_id", "returned_token_ids") if not getattr(pooler, name)]
    if pooler.step_tag_id == 0:
        missing.remove("step_tag_id")
    if missing:
        raise RecipeError(
            f"STEP pooling on a converted generation model needs {' and '.join(missing)} in the pooler config: "
            "the token that ends a step and the tokens to score there, for example "
            '{"pooling_type": "STEP", "step_tag_id": 12902, "returned_token_ids": [648, 387]}. '
            "Or name a recipe: --prm NAME. A request may still override both."
        )
    try:
        check_ids(model_config, pooler.step_tag_id, pooler.returned_token_ids)
    except RequestError as error:
        raise RecipeError(f"pooler config: {error}") from error
    return StepSettings(((pooler.step_tag_id,),), tuple(pooler.returned_token_ids))


def check_ids(model_config: ModelConfig, step_tag_id: Any, scoring_ids: Any) -> None:
    """Raise RequestError unless every given id is a row of the model's head. None is not checked."""
    size = model_config.get_vocab_size()
    if scoring_ids is not None and not scoring_ids:
        raise RequestError(
            "returned_token_ids is empty; give the ids of the scoring tokens, for example [648, 387], "
            "or leave it out to use the server's"
        )
    for name, ids in (("step_tag_id", [step_tag_id]), ("returned_token_ids", scoring_ids or [])):
        for id_ in ids:
            if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, int) or not 0 <= id_ < size):
                raise RequestError(
                    f"{name} contains {id_!r}, which is not a token of this model; expected an id from 0 to {size - 1}"
                )
    if scoring_ids is not None and len(set(scoring_ids)) != len(scoring_ids):
        raise RequestError(f"returned_token_ids {list(scoring_ids)} names a token twice; give each once")


def refuse_what_cannot_work(vllm_config: VllmConfig, model_cls: type) -> None:
    """Raise UnsupportedError for models and engine settings under which a score would be wrong or missing."""
    model_config = vllm_config.model_config
    reasons = []
    if model_config.is_encoder_decoder:
        reasons.append("an encoder-decoder model reads the prompt in its encoder, where no step has a next token")
    if model_config.is_diffusion:
        reasons.append("a diffusion model fills in many tokens at once, so a step tag has no next token to score")
    if getattr(model_cls, "supports_realtime", False):
        reasons.append("a realtime model takes audio and text in step with each other, not a finished prompt")
    elif getattr(model_cls, "supports_transcription_only", False):
        reasons.append("a model that only transcribes audio does not read reasoning steps")
    if vllm_config.parallel_config.prefill_context_parallel_size > 1:
        reasons.append(
            "prefill context parallelism leaves each rank with a part of the prompt's hidden states; "
            "drop --prefill-context-parallel-size"
        )
    if any("lm_head" in name for name in getattr(vllm_config.lora_config, "target_modules", None) or ()):
        reasons.append("LoRA on the output head is not applied to scores; take lm_head out of --lora-target-modules")
    if vllm_config.kv_transfer_config is not None:
        reasons.append(
            "a KV connector (--kv-transfer-config) hands over prompt tokens that this engine never computes, "
            "so the steps among them would have no score; drop that flag"
        )
    if model_config.enable_prompt_embeds:
        reasons.append(
            "prompt embeddings (--enable-prompt-embeds) have no token ids, so their step tags cannot be found; "
            "drop that flag and send text or token ids"
        )
    if getattr(vllm_config.cache_config, "kv_sharing_fast_prefill", False):
        reasons.append(
            "--kv-sharing-fast-prefill computes full hidden states for the last prompt token only; drop that flag"
        )
    if model_config.attn_type == "encoder_only":
        reasons += _two_way_reasons(vllm_config)
    if reasons:
        raise UnsupportedError("this engine cannot serve a process reward model: " + "; ".join(reasons))


def _two_way_reasons(vllm_config: VllmConfig) -> list[str]:
    """vLLM starts such a model with neither, but lets both be turned on (and --task does, for a STEP pooler config)."""
    reasons = []
    if vllm_config.cache_config.enable_prefix_caching:
        reasons.append(
            "in this model a token attends to those after it, so what is cached of a prefix does not hold for a "
            "longer prompt; add --no-enable-prefix-caching"
        )
    if vllm_config.scheduler_config.enable_chunked_prefill:
        reasons.append(
            "in this model a token attends to those after it, so vLLM never ends a prompt that is computed in pieces; "
            "add --no-enable-chunked-prefill"
        )
    return reasons
