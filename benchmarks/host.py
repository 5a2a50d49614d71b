"""What does it cost the host to score a solution? A model of one tiny layer, so that little else takes time.

Real solutions (data/prmbench-180.jsonl), every kind of prompt, a real tokenizer. All ways of a comparison take turns,
in a new random order each round; what is reported is the median over rounds of one way's seconds over another's. Before
anything is timed, planned ids are compared with the tokenizer's, and scores with those of `LLM.encode`.

plan        Scoring(question, steps), one solution after the other / tokenizer.encode of the prompts' texts
plan batch  scorings(solutions) / tokenizer(texts)
cached      PRM.score_batch / tokenizer(texts) and LLM.encode of ready ids; every whole block is in the prefix cache
cold        the same with an empty prefix cache: the tiny model computes everything
search      one batch a round, each beam's whole prefix: PRM.score_batch / LLM.encode of ready ids, summed over rounds
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import host_model
from turns import keep, machine

SOLUTIONS = Path(__file__).parent / "data" / "prmbench-180.jsonl"
LONG = ("passes", "dialogue")  # many prompts a solution: fewer solutions
LIMITS = {"plan": 1.15, "plan_batch": 1.3, "cached": 1.3, "search": 1.5}  # what the ratios are meant to stay below
TOLERANCE = 1e-5  # float32: a prefix that is cached is not computed in the same batch again

Solution = tuple[str, list[str]]
Ways = dict[str, Callable[[], Any]]


def real_solutions(count: int) -> list[Solution]:
    """The file's, again with a number behind the question where they do not suffice."""
    rows = [json.loads(line) for line in SOLUTIONS.read_text(encoding="utf-8").splitlines()]
    again = [f" ({n // len(rows)})" if n >= len(rows) else "" for n in range(count)]
    return [(rows[n % len(rows)]["question"] + again[n], rows[n % len(rows)]["steps"]) for n in range(count)]


def beam_search(rounds: int, seed: int, beams: int = 4, kept: int = 2) -> list[list[Solution]]:
    """Per round, every beam's steps so far; then `kept` of them fork into `beams`. Steps of real solutions."""
    rng = random.Random(seed)
    solutions = real_solutions(180)
    question = rng.choice(solutions)[0]
    pool = [step for _, steps in solutions for step in steps]
    fronts: list[list[str]] = [[] for _ in range(beams)]
    batches = []
    for _ in range(rounds):
        fronts = [[*front, rng.choice(pool)] for front in fronts]
        batches.append([(question, front) for front in fronts])
        fronts = [front for front in rng.sample(fronts, kept) for _ in range(beams // kept)]
    return batches


class Host:
    """One engine, asked through PRM with the recipe of any kind, and past it."""

    def __init__(self, folder: str) -> None:
        from vllm_prm import PRM

        self.prm = PRM(folder, host_model.recipe_of("chat"), dtype="float32", enforce_eager=True,
                       max_model_len=host_model.LONGEST, block_size=32)  # fmt: skip
        self.llm = self.prm.llm
        self.tokenizer = self.llm.get_tokenizer()

    def use(self, kind: str) -> Any:
        """Make the PRM write prompts of this kind: all recipes read the same tokens, so the engine stays as it is."""
        from vllm_prm.recipes import bind

        recipe = bind(host_model.recipe_of(kind), self.tokenizer)
        self.prm._bound_recipe = recipe
        return recipe

    def score(self, solutions: Sequence[Solution]) -> list[Any]:
        return self.prm.score_batch(solutions, progress=False)

    def encode(self, prompts: Sequence[tuple[list[int], list[int]]]) -> list[Any]:
        """prompts: (token ids, positions), ready."""
        from vllm import PoolingParams

        from vllm_prm.engine.positions import positions_request

        params = [
            PoolingParams(use_activation=False, extra_kwargs=positions_request(positions)) for _, positions in prompts
        ]
        ids = [{"prompt_token_ids": token_ids} for token_ids, _ in prompts]
        return self.llm.encode(ids, params, pooling_task="embed", use_tqdm=False)

    def forget(self) -> None:
        assert self.llm.reset_prefix_cache()
        forget_prefixes()


def forget_prefixes() -> None:
    """What planning remembers of earlier prompts: without this, the same solutions would not be tokenized again."""
    from vllm_prm.prompts.prefixes import prefixes_of

    prefixes_of.cache_clear()


def take_turns(ways: Ways, repeats: int, before: Callable[[], Any] = forget_prefixes) -> dict[str, list[float]]:
    """Seconds of each way in each round. before: what each way starts from, not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    order = random.Random(0)
    for _ in range(repeats):
        for name in order.sample(list(ways), len(ways)):
            before()
            begun = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def ratio(seconds: dict[str, list[float]], way: str, *others: str) -> float:
    """Of `way` over the sum of the others, round by round: the median."""
    return statistics.median(
        ours / sum(theirs) for ours, *theirs in zip(seconds[way], *(seconds[name] for name in others), strict=True)
    )


def drafts_of(recipe: Any, solutions: Sequence[Solution]) -> list[list[Any]]:
    """Each solution's first prompts, before they are tokenized."""
    from vllm_prm.prompts.layouts import Solution as Written
    from vllm_prm.prompts.rounds import rounds_of

    return [rounds_of(Written.of(question, steps, recipe)).drafts() for question, steps in solutions]


def texts_of(drafts: Sequence[Sequence[Any]]) -> list[str]:
    """What the tokenizer is asked: a prompt, or where the recipe says so, its question and each of its steps."""
    return [text for its_drafts in drafts for draft in its_drafts for text, _ in draft.texts]


def planning(recipe: Any, solutions: list[Solution], repeats: int) -> dict[str, Any]:
    """Planning against the tokenizer alone, ids compared first."""
    from vllm_prm.prompts import Scoring, scorings

    drafts = drafts_of(recipe, solutions)
    texts, whole, tokenizer = texts_of(drafts), drafts[0][0].is_whole, recipe.tokenizer
    planned = scorings(solutions, recipe)
    for scoring, its_drafts, solution in zip(planned, drafts, solutions, strict=True):
        assert scoring.prompts == Scoring(*solution, recipe).prompts
        encode = recipe.encode_text if whole else recipe.encode_part
        for prompt, draft in zip(scoring.prompts, its_drafts, strict=True):
            assert len(draft.texts) > 1 or list(prompt.token_ids) == encode(draft.texts[0][0])
    seconds = take_turns(
        {
            "plan": lambda: [Scoring(*solution, recipe) for solution in solutions],
            "encode": lambda: [tokenizer.encode(text, add_special_tokens=whole) for text in texts],
            "plan_batch": lambda: scorings(solutions, recipe),
            "tokenizer": lambda: tokenizer(texts, add_special_tokens=whole),
        },
        repeats,
    )
    return {
        "solutions": len(solutions),
        "tokens": sum(len(prompt.token_ids) for scoring in planned for prompt in scoring.prompts) // len(solutions),
        "plan": ratio(seconds, "plan", "encode"),
        "plan_batch": ratio(seconds, "plan_batch", "tokenizer"),
        "ms": {way: statistics.median(times) / len(solutions) * 1e3 for way, times in seconds.items()},
    }


def ready_prompts(solutions: Sequence[Solution], recipe: Any) -> list[tuple[list[int], list[int]]]:
    from vllm_prm.prompts import scorings

    prompts = [prompt for scoring in scorings(solutions, recipe) for prompt in scoring.prompts]
    return [(list(prompt.token_ids), list(prompt.positions)) for prompt in prompts]


def scoring(host: Host, recipe: Any, solutions: list[Solution], repeats: int) -> dict[str, Any]:
    """PRM.score_batch against the tokenizer and LLM.encode; scores compared first. For kinds that ask once."""
    ready = ready_prompts(solutions, recipe)
    drafts = drafts_of(recipe, solutions)
    texts, whole = texts_of(drafts), drafts[0][0].is_whole
    largest_difference = compared(host.score(solutions), host.encode(ready), recipe)
    ways: Ways = {
        "score_batch": lambda: host.score(solutions),
        "tokenizer": lambda: host.tokenizer(texts, add_special_tokens=whole),
        "ready": lambda: host.encode(ready),
    }
    row: dict[str, Any] = {"largest_score_difference": largest_difference, "engine_ms": {}}
    for name, before in (("cached", forget_prefixes), ("cold", host.forget)):
        seconds = take_turns(ways, repeats, before)
        row[name] = ratio(seconds, "score_batch", "tokenizer", "ready")
        row["engine_ms"][name] = {way: statistics.median(t) / len(solutions) * 1e3 for way, t in seconds.items()}
    return row


def compared(results: Sequence[Any], outputs: Sequence[Any], recipe: Any) -> float:
    """The largest difference of step scores between score_batch and LLM.encode."""
    from vllm_prm import StepScores

    largest = 0.0
    for result, output in zip(results, outputs, strict=True):
        logits = output.outputs.data.float().numpy().reshape(-1, 2)
        expected = StepScores.from_logits(logits, recipe.recipe, 0, 0).step_scores
        pairs = zip(result.step_scores, expected, strict=True)
        largest = max(largest, *(abs(a - b) for a, b in pairs))
    assert largest <= TOLERANCE, f"score_batch and LLM.encode differ by {largest}"
    return largest


def searching(host: Host, kind: str, rounds: int, repeats: int) -> dict[str, Any]:
    """One search, cold: score_batch against LLM.encode of ready ids, sums over its rounds."""
    recipe = host.use(kind)
    batches = beam_search(rounds, seed=rounds)
    ready = [ready_prompts(batch, recipe) for batch in batches]
    for batch, prompts in zip(batches, ready, strict=True):
        compared(host.score(batch), host.encode(prompts), recipe)
    seconds = take_turns(
        {
            "score_batch": lambda: [host.score(batch) for batch in batches],
            "ready": lambda: [host.encode(prompts) for prompts in ready],
        },
        repeats,
        host.forget,
    )
    per_round = {way: statistics.median(times) / rounds * 1e3 for way, times in seconds.items()}
    return {"kind": kind, "rounds": rounds, "search": ratio(seconds, "score_batch", "ready"), "ms_per_round": per_round}


def sentencepiece_recipe(folder: Path) -> Any:
    """Math-Shepherd's, with Mistral's sentencepiece model v1 as transformers reads it."""
    import shutil

    from transformers import AutoTokenizer

    from vllm_prm import load_recipe
    from vllm_prm.recipes import bind

    folder.mkdir()
    shutil.copy(host_model.DATA / "tokenizer.model.v1", folder / "tokenizer.model")
    return bind(load_recipe("math-shepherd"), AutoTokenizer.from_pretrained(folder))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=[*host_model.KINDS, "sentencepiece", "search"])
    options.add_argument("--solutions", type=int, default=512)
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--rounds", type=int, nargs="+", default=[12, 24, 40])
    options.add_argument(
        "--quick", action="store_true", help="few and small turns: does it run? Its figures mean nothing"
    )
    options.add_argument("--output", type=Path, help="also write the JSON document to this file")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.solutions, arguments.repeats, arguments.rounds = 6, 2, [3]
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; vLLM would take all memory
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    only = arguments.only or [*host_model.KINDS, "sentencepiece", "search"]
    with tempfile.TemporaryDirectory() as folder:
        table = measured(Path(folder), only, arguments)
    show(table)
    sizes = {"solutions": arguments.solutions, "repeats": arguments.repeats, "limits": LIMITS}
    keep({"benchmark": "host", **sizes, **table, "machine": machine()}, arguments.output)


def measured(folder: Path, only: list[str], arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    host_model.build_model(folder / "model")
    host = Host(str(folder / "model"))
    kinds, searches = [], []
    for kind in host_model.KINDS:
        if kind in only:
            few = max(2, arguments.solutions // 16) if kind in LONG else arguments.solutions
            solutions = real_solutions(few)
            recipe = host.use(kind)
            row = {"kind": kind, **planning(recipe, solutions, arguments.repeats)}
            kinds.append(row if kind in LONG else row | scoring(host, recipe, solutions, arguments.repeats))
    if "sentencepiece" in only:
        recipe = sentencepiece_recipe(folder / "sentencepiece")
        solutions = real_solutions(arguments.solutions)
        kinds.append({"kind": "sentencepiece", **planning(recipe, solutions, arguments.repeats)})
    if "search" in only:
        for rounds in arguments.rounds:
            searches += [searching(host, kind, rounds, arguments.repeats) for kind in ("raw", "turns")]
    host.prm.close()
    return {"kinds": kinds, "searches": searches}


def show(table: dict[str, list[dict[str, Any]]]) -> None:
    names = ("plan", "plan_batch", "cached", "cold")
    print(f"{'kind':18}{'tokens':>8}" + "".join(f"{name:>12}" for name in names))
    for row in table["kinds"]:
        cells = (f"{row[name]:12.2f}" if name in row else f"{'-':>12}" for name in names)
        print(f"{row['kind']:18}{row['tokens']:8d}" + "".join(cells))
    for row in table["searches"]:
        milliseconds = ", ".join(f"{way} {value:.2f} ms" for way, value in row["ms_per_round"].items())
        print(f"search of {row['rounds']} rounds, {row['kind']:6} {row['search']:.2f}   a round: {milliseconds}")


if __name__ == "__main__":
    main()
