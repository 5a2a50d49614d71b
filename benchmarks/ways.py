"""The ways to score that the benchmarks compare: vLLM's options of each, and how each is asked, on the same weights.

  ours          convert=embed, STEP pooler config, scores kept beside the prefix cache
  whole         the same without prefix caching: every prompt is computed whole
  vocabulary, vocabulary_whole  the two with a recipe whose softmax is over the whole vocabulary
  generated     an engine that generates text, asked step by step: PRM(..., runner="generate")
  floor         convert=embed, no STEP: vLLM's own embedding, which is the forward pass and one row per prompt
  floor_reuse   the floor with prefix caching: what reuse leaves to do, without any scores
  native        convert=classify with the classifier built from two head rows, task token_classify, STEP: the only
                combination of vLLM's own flags that gives right numbers; it never reads the prefix cache
  logprobs      generation of one token with prompt_logprobs=20, the scoring tokens picked out at the tags
  token_logprobs  the same with prompt_logprob_token_ids, which vLLM has since 0.32: those of the scoring tokens only
  logprobs_time   prompt_logprobs=20 for its time only: where the scoring tokens may not be among the first 20
  transformers  the model card's recipe: full logits of padded batches of 8, scoring columns at the tags

All vLLM engines get the same settings (dtype, lengths, batch, block size). Nothing here starts a process.
"""

from __future__ import annotations

import time
from typing import Any

from model import Tokens

TOP = 20  # vLLM's own limit of logprobs per position (--max-logprobs)
TOP_LOGPROBS = ("logprobs", "logprobs_time")
OVER_ALL = ("vocabulary", "vocabulary_whole")


def options_of(way: str, tokens: Tokens) -> tuple[str, dict[str, Any]]:
    """vLLM's pooling task and engine options of a way; `WAY#2` is a second engine of the same."""
    step = {"pooling_type": "STEP", "step_tag_id": tokens.tag}
    scoring = {**step, "returned_token_ids": list(tokens.scoring)}
    embed: dict[str, Any] = {"runner": "pooling", "convert": "embed"}
    over_all = {"prm": {**recipe_of(tokens), "activation": "full_softmax"}}
    classifier = {
        "classifier_from_token": list(tokens.pieces),
        "method": "no_post_processing",
        "num_labels": len(tokens.pieces),
    }
    return {
        "ours": ("embed", {**embed, "pooler_config": scoring, "enable_prefix_caching": True}),
        "whole": ("embed", {**embed, "pooler_config": scoring, "enable_prefix_caching": False}),
        "vocabulary": ("embed", {**embed, "hf_overrides": over_all, "enable_prefix_caching": True}),
        "vocabulary_whole": ("embed", {**embed, "hf_overrides": over_all, "enable_prefix_caching": False}),
        "floor": ("embed", {**embed, "enable_prefix_caching": False}),
        "floor_reuse": ("embed", {**embed, "enable_prefix_caching": True}),
        "native": (
            "token_classify",
            {
                "runner": "pooling",
                "convert": "classify",
                "hf_overrides": classifier,
                "pooler_config": {"task": "token_classify", "tok_pooling_type": "STEP", "step_tag_id": tokens.tag},
                "enable_prefix_caching": False,
            },
        ),
        **dict.fromkeys(TOP_LOGPROBS, ("generate", {"enable_prefix_caching": False, "max_logprobs": TOP})),
        "token_logprobs": ("generate", {"enable_prefix_caching": False}),
        "generated": ("generate", {"enable_prefix_caching": True}),
    }[way.split("#")[0]]


def recipe_of(tokens: Tokens) -> dict[str, Any]:
    scoring = zip(("good", "bad"), tokens.scoring, (1.0, 0.0), strict=True)
    return {
        "name": "benchmark",
        "step_tag": {"id": tokens.tag},
        "scoring_tokens": {label: {"id": id_, "weight": weight} for label, id_, weight in scoring},
    }


def token_logprobs_of(ids: list[int], tokens: Tokens) -> dict[str, Any]:
    """Fields of SamplingParams: the scoring tokens at each token from the first step tag on.

    vLLM gives none for a prompt's last token, so a token is to be added to the prompt.
    """
    first = steps(ids, tokens.tag)[0]
    return {"prompt_logprob_start": first, "prompt_logprob_token_ids": [list(tokens.scoring)] * (len(ids) - first)}


class Engine:
    """A vLLM engine in this process."""

    def __init__(self, model: str, way: str, tokens: Tokens, more: dict[str, Any]) -> None:
        from vllm import LLM, PoolingParams, SamplingParams
        from vllm.config import PoolerConfig

        self.tokens, self.way = tokens, way.split("#")[0]
        self.task, options = options_of(self.way, tokens)
        options = {"dtype": "float32", "enable_chunked_prefill": True, "max_num_batched_tokens": 4096} | options | more
        if self.way in TOP_LOGPROBS:  # it keeps the logits of the whole vocabulary for every token of a batch
            options["max_num_batched_tokens"] = min(1024, options["max_num_batched_tokens"])
        if "pooler_config" in options:
            options["pooler_config"] = PoolerConfig(**options["pooler_config"])
        self.llm = LLM(model, **options)
        self.inside = {"model": 0.0, "pooler": 0.0}  # seconds
        if self.way == "generated":
            self.reads = Reads(self.llm, tokens)
        if self.task == "generate":
            self.params: Any = SamplingParams(max_tokens=1, temperature=0.0, logprobs=TOP, prompt_logprobs=TOP)
        else:
            # Logits, of which `scores` makes the two columns' own shares, as the others give them.
            self.params = PoolingParams(task=self.task, use_activation=False if self.way in OVER_ALL else None)
            self.llm.apply_model(lambda model: self._watch("pooler", model.pooler))
        self.llm.apply_model(lambda model: self._watch("model", model))

    def _watch(self, name: str, module: Any) -> None:
        def start(*_: Any) -> None:
            self.inside[name] -= time.perf_counter()

        def stop(*_: Any) -> None:
            self.inside[name] += time.perf_counter()

        module.register_forward_pre_hook(start)
        module.register_forward_hook(stop)

    def forget(self) -> None:
        """As if nothing had been sent yet."""
        self.llm.reset_prefix_cache()
        self.inside = dict.fromkeys(self.inside, 0.0)

    def run(self, batch: list[list[int]]) -> list[Any]:
        prompts = [{"prompt_token_ids": ids} for ids in batch]
        if self.way == "token_logprobs":
            return self._run_token_logprobs(batch)
        if self.way == "generated":
            return self.reads.run(batch)
        if self.task == "generate":
            return self.llm.generate(prompts, self.params, use_tqdm=False)
        return self.llm.encode(prompts, self.params, pooling_task=self.task, use_tqdm=False)

    def _run_token_logprobs(self, batch: list[list[int]]) -> list[Any]:
        from vllm import SamplingParams

        fields = [token_logprobs_of(ids, self.tokens) for ids in batch]
        params = [SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, **each) for each in fields]
        longer = [{"prompt_token_ids": [*ids, self.tokens.tag]} for ids in batch]
        return self.llm.generate(longer, params, use_tqdm=False)

    def run_timed(self, batch: list[list[int]]) -> tuple[list[Any], list[float]]:
        """The same, and when each answer came; step by step, because LLM.encode tells only when all are done."""
        engine, start = self.llm.llm_engine, time.perf_counter()
        for number, ids in enumerate(batch):
            engine.add_request(str(number), {"prompt_token_ids": ids}, self.params.clone())
        answers: dict[int, tuple[Any, float]] = {}
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    answers[int(output.request_id)] = (output, time.perf_counter() - start)
        ordered = [answers[number] for number in range(len(batch))]
        return [output for output, _ in ordered], [seconds for _, seconds in ordered]

    def scores(self, ids: list[int], output: Any) -> list[float]:
        if self.way == "generated":
            return self.reads.scores(output)
        if self.way in OVER_ALL:
            return output.outputs.data.view(-1, len(self.tokens.scoring)).softmax(-1).flatten().tolist()
        if self.task != "generate":
            return output.outputs.data.flatten().tolist()
        import torch

        where = steps(ids, self.tokens.tag)
        if self.way == "token_logprobs":
            rows = torch.tensor(output.prompt_token_id_logprobs)[[position - where[0] for position in where]]
            return rows.softmax(-1).flatten().tolist()
        after = [*output.prompt_logprobs[1:], output.outputs[0].logprobs[0]]  # what follows each prompt token
        rows = [[after[i][id_].logprob for id_ in self.tokens.scoring] for i in where]
        return torch.tensor(rows).softmax(-1).flatten().tolist()

    def cached(self, output: Any) -> int:
        return output[1] if self.way == "generated" else output.num_cached_tokens or 0


class Reads:
    """Prompts read step by step, by the code of PRM(..., runner="generate")."""

    def __init__(self, llm: Any, tokens: Tokens) -> None:
        from types import SimpleNamespace

        from vllm_prm.engine.serve.offline_logits import GeneratedPrompts

        self.tokens, self.computed = tokens, 0
        self.prompts = GeneratedPrompts(llm, None, SimpleNamespace(scoring_ids=tokens.scoring))
        generate = llm.generate

        def counted(*args: Any, **options: Any) -> Any:
            outputs = generate(*args, **options)
            self.computed += sum(len(output.prompt_token_ids) - output.num_cached_tokens for output in outputs)
            return outputs

        llm.generate = counted

    def run(self, batch: list[list[int]]) -> list[Any]:
        """Per prompt its logits, and tokens that were not computed; all of them at the first prompt of the batch."""
        from tqdm import tqdm

        from vllm_prm.prompts import Prompt

        self.computed = 0
        prompts = [Prompt(tuple(ids), tuple(steps(ids, self.tokens.tag))) for ids in batch]
        answers = self.prompts.answers(prompts, tqdm(total=0, disable=True))
        saved = [sum(map(len, batch)) - self.computed, *[0] * (len(batch) - 1)]
        return [(logits, count) for (logits, _), count in zip(answers, saved, strict=True)]

    def scores(self, output: Any) -> list[float]:
        import torch

        return torch.from_numpy(output[0]).softmax(-1).flatten().tolist()


class Transformers:
    """The recipe of math-shepherd's model card: full logits, softmax over two columns, read at the tags."""

    def __init__(self, model: str, tokens: Tokens, dtype: str, batch: int = 8) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.tokens, self.batch = tokens, batch
        self.inside = {"model": 0.0, "pooler": 0.0}  # not watched
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(self.device).eval()

    def forget(self) -> None:
        pass

    def run(self, batch: list[list[int]]) -> list[Any]:
        import torch

        outputs: list[Any] = []
        with torch.inference_mode():
            for start in range(0, len(batch), self.batch):
                part = batch[start : start + self.batch]
                longest = max(map(len, part))
                ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in part], device=self.device)
                mask = torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in part], device=self.device)
                logits = self.model(ids, attention_mask=mask).logits[:, :, list(self.tokens.scoring)]
                probabilities = logits.float().softmax(-1)
                outputs += [row[prompt == self.tokens.tag] for prompt, row in zip(ids, probabilities, strict=True)]
        return outputs

    def scores(self, ids: list[int], output: Any) -> list[float]:
        return output.flatten().tolist()

    def cached(self, output: Any) -> int:
        return 0


def steps(ids: list[int], tag: int) -> list[int]:
    return [i for i, id_ in enumerate(ids) if id_ == tag]
