"""Beam search over reasoning steps, steered by a PRM: propose steps, score every prefix, keep the best few.

The steps come from a sampler in plain Python that reads the story and often miscalculates. It stands where a language
model would: `propose` is the one function to replace, for example by a call to an OpenAI-compatible server with
`stop="\\n"` and `n=children`. The scores are a real PRM's. A prefix that is sent again costs only its new step,
because the engine keeps the scores of cached positions.
"""

import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from vllm_prm import PRM, PRMClient

MODEL = Path(__file__).parent / "tiny-prm"
QUESTION = "Mia has 12 apples. She buys 5. She eats 9. She finds 4. How many now?"
BEAMS, CHILDREN = 2, 4


@dataclass(frozen=True)
class Beam:
    steps: tuple[str, ...] = ()
    score: float = 1.0


def propose(question: str, steps: tuple[str, ...], children: int, rng: random.Random) -> list[str]:
    """`children` next steps; none when the story is at its end. Two in three are wrong."""
    changes = re.findall(r"(?:(buys|finds|gets|makes)|(?:eats|loses|sells|drops)) (\d+)", question)
    if len(steps) == len(changes):
        return []
    count = int(steps[-1].split("= ")[1]) if steps else int(re.findall(r"has (\d+)", question)[0])
    gain, amount = changes[len(steps)]
    right = count + int(amount) if gain else count - int(amount)
    results = [right + rng.choice((0, rng.randint(1, 3), -rng.randint(1, 3))) for _ in range(children)]
    sign = "+" if gain else "-"
    return [f"Step {len(steps) + 1}: {count} {sign} {amount} = {max(0, min(24, result))}" for result in results]


def main() -> None:
    rng = random.Random(7)
    with PRMClient(sys.argv[1]) if len(sys.argv) > 1 else PRM(str(MODEL), dtype="float32") as prm:
        beams = [Beam()]
        while True:
            steps = {
                (*beam.steps, step): None for beam in beams for step in propose(QUESTION, beam.steps, CHILDREN, rng)
            }
            if not steps:
                break
            results = prm.score_batch([(QUESTION, list(prefix)) for prefix in steps], progress=False)
            grown = [Beam(prefix, result.aggregate("min")) for prefix, result in zip(steps, results, strict=True)]
            beams = sorted(grown, key=lambda beam: -beam.score)[:BEAMS]
            print(f"{len(grown)} prefixes of {len(beams[0].steps)} steps scored; kept:")
            for beam in beams:
                print(f"  {beam.score:.4f}  {' | '.join(beam.steps)}")
    print(f"answer: {beams[0].steps[-1].split('= ')[1]}")


if __name__ == "__main__":  # vLLM starts processes that import this file again
    main()
