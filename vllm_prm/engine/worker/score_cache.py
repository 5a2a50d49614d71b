"""ScoreCache: scores that live exactly as long as the KV blocks they belong to.

A request that hits vLLM's prefix cache gets no hidden states for the cached positions, so their scores must have
been kept. They are kept where the KV of the same token is kept: this is one more KV-cache *layer*, whose "key" of a
token is the row of its scoring logits. vLLM sizes it, allocates it, and addresses it through the same block tables
and slots as every attention layer. Whatever block vLLM may serve therefore has its scores, whoever computed it:
eviction, preemption, resets, LoRA adapters, images and cache salts are vLLM's own bookkeeping, not repeated here.
There is nothing to look up, hash or evict, and no such thing as a miss.

4 bytes per scoring token and position: 8 bytes a token for two, beside 128 KiB of KV for an 8B Llama.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed import get_pp_group
from vllm.logger import init_logger
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.v1.attention.backend import (
    AttentionBackend,
    AttentionCGSupport,
    AttentionMetadata,
    AttentionMetadataBuilder,
    CommonAttentionMetadata,
)
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec

from vllm_prm.engine.settings import StepSettings, keeps_scores
from vllm_prm.engine.worker.layers import kv_cache_specs, spec_to_match
from vllm_prm.engine.worker.refusals import refuse_unpaged_layers

if TYPE_CHECKING:
    from vllm.config import CacheConfig, VllmConfig

logger = init_logger(f"vllm.{__name__}")


@dataclass
class _Slots(AttentionMetadata):
    """Where this batch's tokens live. Device tensors of vLLM's own, valid until the next batch is prepared."""

    slot_mapping: torch.Tensor  # [>= tokens] of each scheduled token
    block_table: torch.Tensor  # [>= requests, blocks]


class _SlotsBuilder(AttentionMetadataBuilder[_Slots]):
    """Called by the runner once per batch, with the block table of the group our layer is in."""

    _cudagraph_support = AttentionCGSupport.ALWAYS  # nothing of ours is captured: must not lower vLLM's mode

    def __init__(
        self, kv_cache_spec: Any, layer_names: list[str], vllm_config: VllmConfig, device: torch.device
    ) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        layers = vllm_config.compilation_config.static_forward_context
        self._caches = [layers[name] for name in layer_names]

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> _Slots:
        slots = _Slots(common_attn_metadata.slot_mapping, common_attn_metadata.block_table_tensor)
        for cache in self._caches:
            cache.slots = slots
        return slots


class _ScoreBackend(AttentionBackend):
    """No attention is computed; vLLM asks a layer's backend for its metadata builder."""

    @staticmethod
    def get_name() -> str:
        return "PRM_SCORES"

    @classmethod
    def supports_batch_invariance(cls) -> bool:
        """VLLM_BATCH_INVARIANT asks every backend; a row is copied, whatever stands beside it in the batch."""
        return True

    @staticmethod
    def get_impl_cls() -> Any:
        raise NotImplementedError("the score cache computes no attention")

    @staticmethod
    def get_builder_cls() -> type[_SlotsBuilder]:
        return _SlotsBuilder


class ScoreCache(torch.nn.Module, AttentionLayerBase):
    """Rows of `width` float32 logits, one per KV slot of the engine."""

    def __init__(self, width: int, vllm_config: VllmConfig) -> None:
        super().__init__()
        self.width = width
        self.slots: _Slots | None = None  # of the batch under way
        self.kv_cache = torch.tensor([])  # [blocks, block size, width] once bound
        self._row_bytes = width * torch.float32.itemsize
        self._asked_block_size: int | None = None
        self._cache_config: CacheConfig | None = None  # vLLM's, once it asks for our spec
        # vLLM orders layers by the one number in their name; ours comes after all of the model's.
        name = f"prm.layers.{vllm_config.model_config.get_total_num_hidden_layers()}.scores"
        vllm_config.compilation_config.static_forward_context[name] = self

    def get_attn_backend(self) -> type[AttentionBackend]:
        return _ScoreBackend

    def get_kv_cache_spec(self, vllm_config: VllmConfig) -> KVCacheSpec:
        self._cache_config = vllm_config.cache_config
        self._asked_block_size = vllm_config.cache_config.block_size
        model_spec = spec_to_match(vllm_config, but=self)
        if model_spec is not None and self._has_room(model_spec):
            return model_spec
        return FullAttentionSpec(
            block_size=vllm_config.cache_config.block_size,
            num_kv_heads=1,
            head_size=self.width,
            head_size_v=0,  # one row per token, no value beside it
            dtype=torch.float32,
        )

    def _has_room(self, spec: FullAttentionSpec) -> bool:
        """Whether a row fits where a layer of this spec keeps one head of a token, of whatever dtype."""
        size = spec.state_content_size_bytes
        return size >= self._row_bytes and size % torch.float32.itemsize == 0

    def bind_kv_cache(self, kv_cache: torch.Tensor) -> None:
        """vLLM hands over [blocks, heads, block size, content], in the layout and dtype of our spec.

        On GPUs it does so twice: first some blocks to measure the memory of CUDA graphs with, which it throws away.
        """
        self.kv_cache = kv_cache[:, 0].view(torch.float32)[..., : self.width]
        self.slots = None  # they lead into the blocks before
        # vLLM sets the engine's number of blocks before it hands these over; while it measures there is none.
        # getattr: what is no more in some later vLLM costs the line in the log, not the engine.
        if getattr(self._cache_config, "num_gpu_blocks", None) is not None:
            self._tell(kv_cache)

    def _tell(self, kv_cache: torch.Tensor) -> None:
        """Say what the cache takes, and where prefixes are reused in larger pieces than the engine's blocks."""
        blocks, size = len(kv_cache), kv_cache.shape[2]
        if self._asked_block_size and size > self._asked_block_size:
            # Its tensor is then the whole pool, of which it fills the pages that it is given.
            logger.info("Score cache: %d bytes per token, in pages of the pool that all layers share.", self._row_bytes)
            logger.warning(
                "Prefixes are reused in pieces of %d tokens, not of %d: this model mixes kinds of attention, and vLLM "
                "gives their caches pages of one size. --disable-hybrid-kv-cache-manager keeps the pieces small, at "
                "the cost of KV memory for the layers with a sliding window.",
                size,
                self._asked_block_size,
            )
            return
        slot = kv_cache[0, :, 0].numel() * kv_cache.element_size()
        if slot > self._row_bytes:
            logger.info(
                "Score cache: %d bytes per token, in the place of one attention layer (%d bytes per token), with which "
                "it shares its blocks.",
                self._row_bytes,
                slot,
            )
            return
        mebibytes = blocks * size * slot / 2**20
        logger.info(
            "Score cache: %d bytes per token, %.1f MiB for %d blocks of %d tokens.", slot, mebibytes, blocks, size
        )

    @property
    def ready(self) -> bool:
        """False while vLLM profiles memory, before the cache exists."""
        return self.slots is not None and self.kv_cache.numel() > 0

    def write(self, logits: torch.Tensor) -> None:
        """logits [scheduled tokens, width] of this batch, in batch order -> the slots of those tokens."""
        assert self.slots is not None
        slots, size = self.slots.slot_mapping[: len(logits)], self.kv_cache.shape[1]
        self.kv_cache[slots // size, slots % size] = logits.to(self.kv_cache.dtype)

    def read(self, requests: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """requests [N] (index in this batch), positions [N] (in the prompt) -> logits [N, width]."""
        assert self.slots is not None
        size = self.kv_cache.shape[1]
        blocks = self.slots.block_table[requests, positions // size]
        return self.kv_cache[blocks, positions % size]


def new_score_cache(settings: StepSettings, vllm_config: VllmConfig) -> ScoreCache | None:
    """The score cache of a PRM whose model is built; None where nothing can be read from the prefix cache.

    Raises UnsupportedError if requests would be let read it (settings.keeps_scores) but a layer of the model
    does not store its state in paged slots, so that no slot of ours would go with it.
    """
    if not vllm_config.cache_config.enable_prefix_caching or not keeps_scores(vllm_config.model_config):
        return None
    if not get_pp_group().is_last_rank:
        return None  # the pooler runs on the last stage only
    refuse_unpaged_layers(kv_cache_specs(vllm_config))
    return ScoreCache(len(settings.scoring_ids), vllm_config)
