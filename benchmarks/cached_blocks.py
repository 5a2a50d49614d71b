"""Scale: does a cached block cost more when there are more of them? Up to 100,000 blocks, no engine needed.

vLLM's own KVCacheManager and our ScoreCache, as the scheduler and the pooler use them, on a pool that holds a given
number of cached blocks. Timed per block: looking a prompt's prefix up and allocating it (vLLM's part), writing the
scores of new tokens and reading those of cached ones (ours). Constant per block means that the pool's size does not
matter. `bytes` are the score layer's, for two scoring tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BLOCK, WIDTH, PROMPT = 32, 2, 16  # tokens a block, scoring tokens, blocks a prompt (512 tokens, as real solutions)


class Pool:
    """A KV pool of `blocks` blocks, filled with the prefixes of finished prompts."""

    def __init__(self, blocks: int) -> None:
        import torch
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_manager import KVCacheManager
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

        from vllm_prm.engine.worker.score_cache import ScoreCache

        init_none_hash(sha256)
        spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=WIDTH, dtype=torch.float32)
        config = KVCacheConfig(blocks, [], [KVCacheGroupSpec(["layer"], spec)])
        self.manager = KVCacheManager(config, 1 << 20, scheduler_block_size=BLOCK, hash_block_size=BLOCK)
        self.hasher = get_request_block_hasher(BLOCK, sha256)
        vllm_config: Any = SimpleNamespace(
            model_config=SimpleNamespace(get_total_num_hidden_layers=lambda: 1),
            compilation_config=SimpleNamespace(static_forward_context={}),
        )
        self.scores = ScoreCache(WIDTH, vllm_config)
        self.scores.bind_kv_cache(torch.zeros(blocks, 1, BLOCK, WIDTH))
        self.rng, self.prompts, self.count = random.Random(0), [], 0
        while len(self.prompts) * PROMPT < blocks - 2 * PROMPT:
            self.prompts.append(self.rng.choices(range(30_000), k=PROMPT * BLOCK + 1))
            self.score(self.prompts[-1])

    def score(self, ids: list[int]) -> tuple[float, float, float, int]:
        """Seconds of vLLM's bookkeeping, of writing and of reading scores; blocks found in the cache."""
        import torch
        from vllm.pooling_params import PoolingParams
        from vllm.v1.request import Request

        from vllm_prm.engine.worker.score_cache import _Slots

        self.count += 1
        params = PoolingParams(task="embed", skip_reading_prefix_cache=False)
        request = Request(str(self.count), ids, None, params, block_hasher=self.hasher)
        start = time.perf_counter()
        cached, found, _ = self.manager.get_computed_blocks(request)
        self.manager.allocate_slots(request, len(ids) - found, found, cached)
        (blocks,) = self.manager.get_block_ids(request.request_id)
        looked_up = time.perf_counter()
        table = torch.tensor([blocks], dtype=torch.int32)
        positions = torch.arange(len(ids))
        new = positions[found:]
        self.scores.slots = _Slots(table[0, new // BLOCK] * BLOCK + new % BLOCK, table)
        values = new[:, None].expand(-1, WIDTH).float()
        begin = time.perf_counter()
        self.scores.write(values)
        written = time.perf_counter()
        read = self.scores.read(torch.zeros_like(positions), positions)
        end = time.perf_counter()
        assert torch.equal(read[:, 0], positions.float()), "a score is missing or not its own"
        request.num_computed_tokens = len(ids)
        self.manager.free(request)
        return looked_up - start, written - begin, end - written, found // BLOCK


def measure(blocks: int, turns: int) -> dict[str, Any]:
    pool = Pool(blocks)
    hits = [
        pool.score(pool.prompts[pool.rng.randrange(len(pool.prompts) // 2, len(pool.prompts))]) for _ in range(turns)
    ]
    assert all(found == PROMPT for *_, found in hits), "a prompt fell out of the pool, so the hits are not hits"
    misses = [pool.score(pool.rng.choices(range(30_000), k=PROMPT * BLOCK + 1)) for _ in range(turns)]
    assert not any(found for *_, found in misses)
    us = 1e6 / PROMPT
    return {
        "blocks": blocks,
        "lookup_us": us * statistics.median(lookup for lookup, *_ in hits),
        "write_us": us * statistics.median(write for _, write, _, _ in misses),
        "read_us": us * statistics.median(read for _, _, read, _ in hits),
        "bytes": pool.scores.kv_cache.nbytes,
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--blocks", type=int, nargs="+", default=[1_000, 3_000, 10_000, 30_000, 100_000])
    made.add_argument("--turns", type=int, default=500)
    made.add_argument("--quick", action="store_true")
    made.add_argument("--output", type=Path)
    arguments = made.parse_args()
    sizes, turns = ([500, 1_000], 20) if arguments.quick else (arguments.blocks, arguments.turns)
    measure(500, 20)  # warms up
    table = [measure(blocks, turns) for blocks in sizes]
    print(f"microseconds a block of {BLOCK} tokens, prompts of {PROMPT} blocks")
    print(f"{'cached blocks':>14}{'look up':>10}{'write scores':>14}{'read scores':>13}{'bytes of scores':>17}")
    for row in table:
        print(
            f"{row['blocks']:14,}{row['lookup_us']:10.2f}{row['write_us']:14.2f}{row['read_us']:13.2f}{row['bytes']:17,}"
        )
    document = {"benchmark": "cached_blocks", "block": BLOCK, "prompt_blocks": PROMPT, "table": table}
    document["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
    line = json.dumps(document)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
