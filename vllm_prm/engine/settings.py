"""Whether an engine is a PRM, and what it reads then.

Decided from vLLM's own ModelConfig alone, so that the front end (which checks requests) and every worker
(which scores them) come to the same verdict without talking to each other. Two ways make an engine a PRM, both
on top of `runner=pooling, convert=embed`:

* `hf_overrides={"prm": ...}` (what `--task embed`, `--prm` and PRM set): a recipe, as a name, file or JSON;
* `pooler_config` with STEP pooling, `step_tag_id` and `returned_token_ids`: vLLM's own flags, no recipe.

Everything else stays vLLM's own embedding.

An engine that generates text (`runner=generate`) is no PRM in this sense, since it has no pooler; but with a recipe in
`hf_overrides` it scores steps by generating (serve/generated.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vllm_prm.errors import RecipeError, RequestError
from vllm_prm.recipes import Recipe, load_recipe
from vllm_prm.recipes.binding import BoundRecipe, bind

if TYPE_CHECKING:
    from vllm.config import ModelConfig

OVERRIDE = "prm"  # the key in hf_overrides that carries the recipe
ADAPTER = "prm_adapter"  # and the name of the LoRA adapter that it is for, if any
TASKS = ("embed", "token_classify")


@dataclass(frozen=True)
class StepSettings:
    """What a PRM engine reads when a request does not say otherwise.

    step_tags: token sequences; any of them ends a step.
    scoring_ids: rows of the output head, or columns of the model's own output (`head`).
    weights: of each scoring id in the step score; None without a recipe (then all probabilities are returned).
    offset: position read, relative to the last token of the tag.
    head, head_names, activation, reads_vocabulary: as in `recipes.Recipe`.
    """

    step_tags: tuple[tuple[int, ...], ...]
    scoring_ids: tuple[int, ...]
    weights: tuple[float, ...] | None = None
    offset: int = 0
    head: str = "lm_head"
    head_names: tuple[str, ...] = ()
    activation: str = "softmax"
    reads_vocabulary: bool = False

    def keep(self, scoring_ids: Sequence[int] | None) -> bool:
        """Whether an engine that keeps scores has those of a request with these scoring tokens (None: the engine's).

        It keeps the logits of its own tokens, and of no others. The front end asks this to let a request read the
        prefix cache, the pooler to find its scores; if they disagreed, steps would be missing.
        """
        return scoring_ids is None or tuple(scoring_ids) == self.scoring_ids


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


def scores_by_generating(model_config: ModelConfig) -> bool:
    """True if this engine generates text and has a recipe, so that it scores steps beside its other work."""
    return model_config.runner_type == "generate" and getattr(model_config.hf_config, OVERRIDE, None) is not None


def adapter_of(model_config: ModelConfig) -> str | None:
    """The name of the LoRA adapter that the recipe is for; None if it is for the base model, and so for all."""
    return getattr(model_config.hf_config, ADAPTER, None)


def _is_pooling_model(model_config: ModelConfig) -> bool:
    architectures = getattr(model_config.hf_config, "architectures", None) or []
    return model_config.registry.is_pooling_model(architectures, model_config)


def keeps_scores(model_config: ModelConfig) -> bool:
    """True if this PRM keeps the scores of cached positions, so that its requests may read vLLM's prefix cache.

    They are kept as one more layer of paged KV. Recurrent states are not paged by token, so hybrid and
    attention-free models have none, and their requests compute every token.
    """
    return not (model_config.is_hybrid or model_config.is_attention_free or model_config.is_encoder_decoder)


def bound_recipe_of(model_config: ModelConfig) -> BoundRecipe | None:
    """The engine's recipe, resolved against the served tokenizer; None if it has none.

    Raises RecipeError if they do not fit, or the engine has no tokenizer (--skip-tokenizer-init).
    """
    recipe = recipe_of(model_config)
    if recipe is None:
        return None
    if model_config.skip_tokenizer_init:
        raise RecipeError(
            f"recipe {recipe.name!r} names its tokens as vocabulary pieces, which need a tokenizer; drop "
            "--skip-tokenizer-init, or give ids by --pooler-config instead of a recipe"
        )
    from vllm.tokenizers import cached_tokenizer_from_config

    return bind(recipe, cached_tokenizer_from_config(model_config))


def settings_of(model_config: ModelConfig) -> StepSettings:
    """What a PRM engine reads, by its recipe or by its pooler config. Raises RecipeError if that cannot be read."""
    bound = bound_recipe_of(model_config)
    return _flag_settings(model_config) if bound is None else recipe_settings(bound, model_config)


def recipe_settings(bound: BoundRecipe, model_config: ModelConfig) -> StepSettings:
    """Raises RecipeError if the model's head has no row for a token of the recipe."""
    recipe = bound.recipe
    try:
        for tag in bound.step_tags:
            for token_id in tag:
                check_ids(model_config, token_id, None)
        if recipe.head == "lm_head":
            check_ids(model_config, None, bound.scoring_ids)
    except RequestError as error:
        raise RecipeError(f"recipe {recipe.name!r} does not fit the model: {error}") from error
    return StepSettings(
        step_tags=bound.step_tags,
        scoring_ids=bound.scoring_ids,
        weights=recipe.weights,
        offset=recipe.offset,
        head=recipe.head,
        head_names=recipe.head_names,
        activation=recipe.activation,
        reads_vocabulary=recipe.reads_vocabulary,
    )


def _flag_settings(model_config: ModelConfig) -> StepSettings:
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
    """Raise RequestError unless every id is a row of the model's head. None is not checked."""
    size = model_config.get_vocab_size()
    if scoring_ids is not None and not scoring_ids:
        raise RequestError(
            "returned_token_ids is empty; give the ids of the scoring tokens, for example [648, 387], "
            "or leave it out to use the server's"
        )
    for name, ids in (("step_tag_id", [step_tag_id]), ("returned_token_ids", scoring_ids or [])):
        for token_id in ids:
            if token_id is not None and (
                isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < size
            ):
                raise RequestError(
                    f"{name} contains {token_id!r}, which is not a token of this model; expected an id from 0 to "
                    f"{size - 1}"
                )
    if scoring_ids is not None and len(set(scoring_ids)) != len(scoring_ids):
        raise RequestError(f"returned_token_ids {list(scoring_ids)} names a token twice; give each once")
