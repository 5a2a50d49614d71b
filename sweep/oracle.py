"""An oracle that knows nothing of us: the same weights in a generation engine, asked for the prompt's logprobs.

`python -m sweep.oracle`, about ten minutes; one JSON line per architecture in sweep/oracle.jsonl.
The generation engine gives the log-probability of every vocabulary entry after each prompt token, from the code path
that samples text. Over the scoring tokens alone those are softmax(logits) once renormalised, which is what the PRM
engine answers at a step tag. What is compared crosses no code of ours on the generation side.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from sweep.run import RESTART, in_batches

RESULTS = Path(__file__).with_name("oracle.jsonl")
LIMIT = 1e-4  # of a probability: the generation engine's passed through a log-softmax over the whole vocabulary

# One architecture or two for each thing that models do between their last layer and their logits.
KINDS: dict[str, str] = {
    "LlamaForCausalLM": "plain matrix",
    "Lfm2ForCausalLM": "tied to the input embedding",
    "Plamo3ForCausalLM": "vocabulary padded in the model",
    "CohereForCausalLM": "input embedding as head, and a scale",
    "GraniteForCausalLM": "scale (divided)",
    "HyperCLOVAXForCausalLM": "scale (multiplied)",
    "FalconH1ForCausalLM": "scale, recurrent layers",
    "TeleFLMForCausalLM": "scale from muP",
    "Gemma3ForCausalLM": "soft cap",
    "Gemma2ForCausalLM": "input embedding as head, and a soft cap",
    "HYV4ForCausalLM": "soft cap outside the logits processor",
    "MuseGlimmerForCausalLM": "multiplier, then soft cap",
    "GPTJForCausalLM": "bias",
    "MiMoForCausalLM": "norm inside compute_logits",
    "Step3p5ForCausalLM": "norm inside compute_logits, mixture of experts",
    "InternLM2ForCausalLM": "head under another name",
    "ChatGLMModel": "head inside the transformer",
    "BailingMoeForCausalLM": "normalised head",
    "OPTForCausalLM": "projected head",
    "Mamba2ForCausalLM": "no attention",
    "LlavaForConditionalGeneration": "head of an inner language model",
    "Gemma4ForConditionalGeneration": "suppressed tokens",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", default=list(KINDS))
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)  # how a batch calls this file
    args = parser.parse_args()
    if args.work:
        work(args.architectures)
        return
    from tqdm import tqdm

    for result in tqdm(in_batches(args.architectures, 8, "sweep.oracle"), total=len(args.architectures)):
        with RESULTS.open("a") as out:
            out.write(json.dumps(result) + "\n")
        tqdm.write(f"{result['architecture']:40} {result.get('difference', result.get('why'))}")


def results() -> dict[str, dict[str, Any]]:
    """The last line of each architecture."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {row["architecture"]: row for row in map(json.loads, lines)}


def work(architectures: list[str]) -> None:
    """Runs in a batch's process: one JSON line per architecture on stdout."""
    from vllm import __version__

    from sweep import absent, score

    absent.stand_in()
    score.nontrivial_weights()
    score.inspect_models_here()
    for name in architectures:
        result: dict[str, Any] = {"architecture": name, "vllm": __version__}
        try:
            result |= compare(name)
        except Exception as error:  # noqa: BLE001 - it is what the line says
            result["why"] = f"{type(error).__name__}: {error}"[:400]
        print("\n" + json.dumps(result), flush=True)
        if "why" in result:
            os._exit(RESTART)


def compare(name: str) -> dict[str, Any]:
    """The largest difference of a probability between the two engines, over every step of the sweep's prompts."""
    import torch

    from sweep import configs, score

    prompts, dtype, options = score.prompts(), configs.entry(name).dtype, configs.options(name)
    with tempfile.TemporaryDirectory() as folder:
        configs.write(name, folder)
        with score.engine(folder, dtype, options) as llm:
            scored = torch.cat([score.encode(llm, [ids], activated=True)[0] for ids in prompts])
        generation = {"runner": "generate", "convert": "none", "pooler_config": None, "max_logprobs": -1}
        with score.engine(folder, dtype, {**options, **generation}) as llm:
            generated = torch.cat([_probabilities(llm, [ids], score.TAG, score.SCORING) for ids in prompts])
            together = _probabilities(llm, prompts, score.TAG, score.SCORING)
    if scored.shape != generated.shape:
        raise RuntimeError(f"{list(scored.shape)} scores, the oracle has {list(generated.shape)}")
    return {
        "steps": len(scored),
        "spread": round(generated.std(0).mean().item(), 4),
        "difference": (scored - generated).abs().max().item(),
        # Of vLLM alone: what a batch of several prompts changes in generation.
        "generation_batch_difference": (together - generated).abs().max().item(),
    }


def _probabilities(llm: Any, prompts: list[list[int]], tag: int, scoring: tuple[int, ...]) -> Any:
    """[steps, scoring tokens]: the next token's distribution after each tag, over the scoring tokens alone."""
    import torch
    from vllm import SamplingParams

    # One more token at the end: logprobs are given for prompt tokens, and those after the last tag are of the next.
    asked = [{"prompt_token_ids": [*ids, 150]} for ids in prompts]
    params = SamplingParams(max_tokens=1, prompt_logprobs=-1, detokenize=False)
    rows = []
    for ids, output in zip(prompts, llm.generate(asked, params, use_tqdm=False), strict=True):
        after = [output.prompt_logprobs[i + 1] for i, id_ in enumerate(ids) if id_ == tag]
        rows += [[entry[token].logprob for token in scoring] for entry in after]
    return torch.tensor(rows).softmax(-1)


if __name__ == "__main__":
    main()
