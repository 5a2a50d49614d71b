"""Whatever a model does around its output head, its step scores are those of transformers.

One small model per kind of head; plain, tied and soft-capped ones are in test_scores.py.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import checkpoints
import pytest
import torch
from checkpoints import save
from conftest import running, step_config
from oracle import TOLERANCE, Oracle, difference, prompt, tokens
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from vllm import PoolingParams
from vllm.model_executor.models import registry

from vllm_prm.engine.worker import head as head_module
from vllm_prm.engine.worker import head_columns

SMALL = checkpoints.SMALL


def with_bias(model: PreTrainedModel) -> PreTrainedModel:
    model.lm_head.bias.data.normal_()  # transformers starts with zeros, which nobody would miss
    return model


def bias() -> PreTrainedModel:
    sizes = {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_inner": 256, "rotary_dim": 16, "n_positions": 2048}
    return with_bias(GPTJForCausalLM(GPTJConfig(vocab_size=32000, initializer_range=0.1, **sizes)))


def bias_through_the_transformers_backend() -> PreTrainedModel:
    return with_bias(PhiForCausalLM(PhiConfig(**SMALL)))


def scale_and_embedding_as_head() -> PreTrainedModel:
    return CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.3))


def scale() -> PreTrainedModel:
    return GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=4.0, attention_multiplier=0.2))


def projected() -> PreTrainedModel:
    sizes = {"hidden_size": 128, "word_embed_proj_dim": 64, "ffn_dim": 256, "num_hidden_layers": 2}
    config = OPTConfig(vocab_size=32000, num_attention_heads=4, init_std=0.1, **sizes)
    return OPTForCausalLM(config)


def norm_before_the_head() -> PreTrainedModel:
    """MiMo is Qwen2 with its last norm inside `compute_logits`: what the pooler gets is not normalised."""
    return Qwen2ForCausalLM(Qwen2Config(**SMALL, use_sliding_window=False))


KINDS = {
    bias: "GPTJForCausalLM",
    bias_through_the_transformers_backend: "PhiForCausalLM",
    scale_and_embedding_as_head: "CohereForCausalLM",
    scale: "GraniteForCausalLM",
    projected: "OPTForCausalLM",
    norm_before_the_head: "MiMoForCausalLM",
}


def scores(llm, prompts, **params):
    outputs = llm.encode([tokens(p) for p in prompts], PoolingParams(**params), pooling_task="embed", use_tqdm=False)
    return [output.outputs.data for output in outputs]


def whole_because(llm) -> str | None:
    (reason,) = llm.apply_model(lambda model: model.pooler.head.whole_because)
    return reason


@pytest.mark.parametrize("build", KINDS, ids=lambda build: build.__name__)
def test_kind_of_head(build, tmp_path):
    if build is bias_through_the_transformers_backend and "PhiForCausalLM" in registry._TEXT_GENERATION_MODELS:
        pytest.skip("this vLLM has a Phi of its own, and no grouped queries in it: run it with vLLM 0.32 or later")
    folder = save(tmp_path / "model", build)
    _rename_architecture(folder, KINDS[build])
    oracle = Oracle(folder)
    prompts = [prompt(random.Random(steps), steps) for steps in (1, 4, 12)]
    # Before the engine: vLLM's transformers backend changes the class in transformers, which then runs only in vLLM.
    expected = [oracle.logits(ids) for ids in prompts]
    assert torch.cat(expected).std() > 0.1, "logits too alike to show an error"
    with running(folder, pooler_config=step_config(), max_model_len=2048) as llm:
        assert llm.apply_model(lambda model: model.pooler.head.checked) == [True], "not checked at start-up"
        assert whole_because(llm) is None, "the scoring columns were expected to do"
        probabilities, logits = scores(llm, prompts), scores(llm, prompts, use_activation=False)
    for found, raw, right in zip(probabilities, logits, expected, strict=True):
        assert difference(found, right.softmax(-1).flatten()) < TOLERANCE
        assert difference(raw, right.flatten()) < TOLERANCE * max(1.0, right.abs().max().item())


def test_head_under_another_name():
    """InternLM2 calls its head `output`; transformers has no class of it, so its own whole head is the reference."""
    from sweep import configs, score, small_engine

    small_engine.nontrivial_weights()
    with TemporaryDirectory() as folder:
        configs.write("InternLM2ForCausalLM", folder)
        measured = score.score(folder, "float32", {})
    assert "why" not in measured, measured["why"]
    assert measured["head"] == "columns"


def test_a_check_that_cannot_run_yet_leaves_the_head_as_it_was(checkpoint):
    """Else the second check would take the dtype of the first one's attempt for the head's own."""
    with running(checkpoint("mistral"), pooler_config=step_config()) as llm:

        def interrupted(model):
            head = model.pooler.head
            (processor,) = head._columns.processors
            head._columns = None
            before = processor.head_dtype
            with patch.object(head_module, "check_head", side_effect=IndexError), pytest.raises(IndexError):
                head.prepare(torch.zeros(1, model.config.hidden_size))
            return before, processor.head_dtype, head.checked

        ((before, after, checked),) = llm.apply_model(interrupted)
    assert before == after == torch.float32
    assert not checked


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_checked_before_the_first_request(checkpoint, dtype):
    """vLLM loads a model with its dtype as torch's default, in which ids of the vocabulary are not exact."""
    with running(checkpoint("mistral"), pooler_config=step_config(), dtype=dtype) as llm:
        assert llm.apply_model(lambda model: model.pooler.head.checked) == [True]
        assert whole_because(llm) is None


class TestFallback:
    """What cannot be done with a part of the head is done with the whole, and said once."""

    @pytest.fixture
    def folder(self, checkpoint):
        return checkpoint("mistral")

    def check(self, folder, log, because: str):
        oracle = Oracle(folder)
        prompts = [prompt(random.Random(steps), steps, longest_step=3) for steps in (1, 5, 150)]
        # 64 rows of 32,000 logits per call of the whole head: of 150 steps, several slices are put together.
        small_calls = patch.object(head_module, "_LOGITS_PER_CALL", 64 * 32_000)
        with small_calls, running(folder, pooler_config=step_config(), max_model_len=2048) as llm:
            assert because in (whole_because(llm) or ""), "it is known, and said, before the first request"
            assert any(because in record.getMessage() for record in log.records)
            found = scores(llm, prompts)
        for ids, values in zip(prompts, found, strict=True):
            assert difference(values, oracle.probabilities(ids).flatten()) < TOLERANCE
        said = [record.getMessage() for record in log.records if "whole head" in record.getMessage()]
        assert len(said) == 1, said
        assert said[0].startswith("MistralForEmbedding"), "vLLM's name of the class, as in its own messages"
        assert because in said[0]

    def test_wrong_columns(self, folder, vllm_log, monkeypatch):
        right = head_columns._RowsMethod.apply
        monkeypatch.setattr(head_columns._RowsMethod, "apply", lambda *a, **k: right(*a, **k) + 0.5)
        self.check(folder, vllm_log, "the scoring columns differ from its whole head by 0.5")

    def test_columns_that_fail(self, folder, vllm_log, monkeypatch):
        def fail(*args, **kwargs):
            raise TypeError("no kernel for 64 columns")

        monkeypatch.setattr(head_columns._RowsMethod, "apply", fail)
        self.check(folder, vllm_log, "no kernel for 64 columns")

    @pytest.mark.parametrize("masked", [0, 31000])
    def test_masked_tokens(self, folder, vllm_log, monkeypatch, masked):
        """Gemma4 and Moondream3 overwrite logits by token id. Column 0 exists, column 31000 does not."""
        from vllm.model_executor.models.llama import LlamaForCausalLM

        whole = LlamaForCausalLM.compute_logits

        def masking(self, hidden_states):
            return whole(self, hidden_states).index_fill_(1, torch.tensor([masked]), float("-inf"))

        monkeypatch.setattr(LlamaForCausalLM, "compute_logits", masking)
        self.check(folder, vllm_log, "changes the logits of particular tokens")

    def test_quantised_head(self, folder, vllm_log, monkeypatch):
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        made = ParallelLMHead.__init__

        class Packed:
            """A quant method that only offers `apply`, as those of packed weights do."""

            def apply(self, layer, x, bias=None):
                return torch.nn.functional.linear(x, layer.weight, bias)

        def quantised(self, *args, **kwargs):
            made(self, *args, **kwargs)
            self.quant_method = Packed()

        monkeypatch.setattr(ParallelLMHead, "__init__", quantised)
        self.check(folder, vllm_log, "not a plain matrix but Packed")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_head_that_a_quantised_checkpoint_leaves_plain(checkpoint, monkeypatch, dtype):
    """ModelOpt, AutoRound and Quark give it the method of a linear layer; only a few of its columns are computed."""
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    init = ParallelLMHead.__init__

    class AsOnGPUs(UnquantizedLinearMethod):
        """On CPUs this method packs the weight away, and then the whole head runs."""

        def process_weights_after_loading(self, layer):
            return

        def apply(self, layer, x, bias=None):
            return torch.nn.functional.linear(x, layer.weight, bias)

    def left_plain(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.quant_method = AsOnGPUs()

    monkeypatch.setattr(ParallelLMHead, "__init__", left_plain)
    folder = checkpoint("mistral")
    ids = prompt(random.Random(0), 6)
    with running(folder, pooler_config=step_config(), dtype=dtype, max_model_len=2048) as llm:
        assert whole_because(llm) is None
        limit = TOLERANCE if dtype == "float32" else 0.02  # of a probability; 0.0045 was measured
        assert difference(scores(llm, [ids])[0], Oracle(folder).probabilities(ids).flatten()) < limit


def test_rows_follow_reloaded_weights(tmp_path):
    folder = save(tmp_path / "model", checkpoints.mistral)
    ids = prompt(random.Random(0), 6)
    with running(folder, pooler_config=step_config(), max_model_len=2048) as llm:
        before = scores(llm, [ids])[0]
        assert difference(before, Oracle(folder).probabilities(ids).flatten()) < TOLERANCE
        torch.manual_seed(1)
        checkpoints.mistral().save_pretrained(folder)
        llm.collective_rpc("reload_weights")
        after = scores(llm, [ids])[0]
    assert difference(after, before) > 0.01, "the new weights score as the old ones: the test shows nothing"
    assert difference(after, Oracle(folder).probabilities(ids).flatten()) < TOLERANCE


def test_the_check_is_cheap(tmp_path):
    """Under 1 % of the memory of the model's weights. (`python -m sweep.check_cost` measures its time.)"""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {**SMALL, "vocab_size": 128256, "hidden_size": 256, "num_hidden_layers": 1}
    folder = save(tmp_path / "model", lambda: LlamaForCausalLM(LlamaConfig(**sizes)))
    with running(folder, pooler_config=step_config(), max_model_len=2048) as llm:

        def allocated(model) -> float:
            """Everything that it allocates, freed or not, as a part of the weights."""
            cpu = torch.profiler.ProfilerActivity.CPU
            with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
                head = head_module.ScoringHead(model)
                head.prepare(torch.zeros(1, 256))
            assert head.whole_because is None
            taken = sum(max(event.self_cpu_memory_usage, 0) for event in profile.events())
            assert taken > 2 * 128256 * 4, "not even the logits of two rows: nothing was measured"
            return taken / sum(parameter.nbytes for parameter in model.parameters())

        (share,) = llm.apply_model(allocated)
    assert share < 0.01


def _rename_architecture(folder: str, name: str) -> None:
    path = Path(folder) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": [name]}))
