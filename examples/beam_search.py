"""Beam search over reasoning steps: a generator proposes the next step, a PRM scores every prefix, the best few go on.

    vllm serve examples/tiny-generator --port 8001
    VLLM_PLUGINS=prm vllm serve examples/tiny-prm --task embed --port 8000
    python examples/beam_search.py http://localhost:8001 http://localhost:8000

The generator often miscalculates, so that there is something to search for. A prefix that is sent again costs only its
new step, because the PRM's engine keeps the scores of cached positions. On one GPU, give each server its share with
--gpu-memory-utilization 0.45.
"""

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from arithmetic import Solution, is_held_out, solution
from openai import OpenAI

from vllm_prm import PRMClient

QUESTIONS, MOST_STEPS = 20, 8


@dataclass(frozen=True)
class Beam:
    steps: tuple[str, ...] = ()
    done: bool = False
    score: float = 1.0

    @property
    def text(self) -> str:
        return "".join(f"{step}\n" for step in self.steps)


def propose(generator: OpenAI, question: str, beams: list[Beam], children: int) -> dict[tuple[str, ...], bool]:
    """Each beam with one more step, `children` times, and whether that step ended the solution."""
    prompts = [f"{question} {beam.text}".rstrip(" ") for beam in beams]
    model = generator.models.list().data[0].id
    answer = generator.completions.create(
        model=model, prompt=prompts, n=children, stop="\n", max_tokens=40, temperature=1, seed=7
    )
    return {
        (*beams[choice.index // children].steps, choice.text.strip() or "?"): choice.stop_reason is None
        for choice in answer.choices
    }


def search(generator: OpenAI, prm: PRMClient, question: str, width: int, children: int) -> Iterator[list[Beam]]:
    """Yields the beams kept in each round, best first."""
    kept = [Beam()]
    while not all(beam.done for beam in kept):
        growing = [beam for beam in kept if not beam.done]
        steps = propose(generator, question, growing, children)
        results = prm.score_batch([(question, list(prefix)) for prefix in steps], progress=False)
        grown = [
            Beam(prefix, last or len(prefix) == MOST_STEPS, result.aggregate("min"))
            for (prefix, last), result in zip(steps.items(), results, strict=True)
        ]
        finished = [beam for beam in kept if beam.done]
        kept = sorted(grown + finished, key=lambda beam: -beam.score)[:width]
        yield kept


def problems(number: int) -> list[Solution]:
    """Right solutions of questions that neither model was trained on."""
    rng = random.Random(11)
    endless = (solution(rng) for _ in count())
    return list(islice((one for one in endless if is_held_out(one.question)), number))


def main() -> None:
    generator, alone, steered = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none"), [], []
    with PRMClient(sys.argv[2]) as prm:
        for number, problem in enumerate(problems(QUESTIONS)):
            *_, [single] = search(generator, prm, problem.question, width=1, children=1)
            for kept in search(generator, prm, problem.question, width=3, children=8):
                if number == 0:
                    print(*(f"{beam.score:.4f}  {' | '.join(beam.steps)}" for beam in kept), "", sep="\n")
            alone.append(single.steps == problem.steps)
            steered.append(kept[0].steps == problem.steps)
    print(f"right: {sum(alone)} of {QUESTIONS} by one sample of the generator, {sum(steered)} by the search")


if __name__ == "__main__":
    main()
