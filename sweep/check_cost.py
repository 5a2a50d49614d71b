"""What the check of the output head costs at start-up; the numbers of docs/numerics.md.

`python -m sweep.check_cost`, about a minute, no engine: vLLM's own head and logits processor in a model of nothing
else, in float32. The check cannot be faster than one row through the same weights by torch alone, so that is printed
beside it. Seconds are the fastest of five; bytes are everything that the check allocates, freed or not, so its peak is
lower.
"""

from __future__ import annotations

import time

VOCABULARY = 128_256  # Llama 3
WIDTHS = (1024, 2048, 4096)


def main() -> None:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.utils.network_utils import get_open_port

    config = VllmConfig()
    with set_current_vllm_config(config):
        address = f"tcp://127.0.0.1:{get_open_port()}"
        init_distributed_environment(1, 0, address, 0, "gloo")
        initialize_model_parallel(1, 1)
        print("| hidden size | weights of the head | seconds | one row alone | allocated | of the head |")
        for width in WIDTHS:
            _measure(width)


def _measure(width: int) -> None:
    import torch
    from vllm.model_executor.layers.logits_processor import LogitsProcessor
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    from vllm_prm.engine.worker.head import ScoringHead

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lm_head = ParallelLMHead(VOCABULARY, width, params_dtype=torch.float32)
            self.logits_processor = LogitsProcessor(VOCABULARY)

        def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.logits_processor(self.lm_head, hidden)

    model = Model()
    model.lm_head.weight.data.normal_(0, width**-0.5)
    model.lm_head.quant_method.process_weights_after_loading(model.lm_head)
    check_seconds, row_seconds = [], []
    row = torch.randn(1, width)
    for _ in range(5):
        began = time.perf_counter()
        torch.nn.functional.linear(row, model.lm_head.weight)
        row_seconds.append(time.perf_counter() - began)
        head = ScoringHead(model)
        began = time.perf_counter()
        head.prepare_loaded(width, torch.float32)
        check_seconds.append(time.perf_counter() - began)
        assert head.checked
        assert head.whole_because is None, head.whole_because
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        ScoringHead(model).prepare_loaded(width, torch.float32)
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profile.events())
    weights = model.lm_head.weight.nbytes
    print(
        f"| {width} | {weights / 1e6:.0f} MB | {min(check_seconds):.3f} | {min(row_seconds):.3f} "
        f"| {allocated / 1e6:.1f} MB | {allocated / weights:.2%} |"
    )


if __name__ == "__main__":
    main()
