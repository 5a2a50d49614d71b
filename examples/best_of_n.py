"""Best of N: several solutions to one question, the PRM chooses.

python examples/best_of_n.py                        # an engine in this process, examples/tiny-prm
python examples/best_of_n.py http://localhost:8000  # a server: VLLM_PLUGINS=prm vllm serve ... --task embed
"""

import sys
from pathlib import Path

from vllm_prm import PRM, PRMClient

MODEL = Path(__file__).parent / "tiny-prm"
QUESTION = "Mia has 12 apples. She buys 5. She eats 9. She finds 4. How many now?"
CANDIDATES = [
    ["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 7", "Step 3: 7 + 4 = 11"],
    ["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 8", "Step 3: 8 + 4 = 12"],
    ["Step 1: 12 - 5 = 7", "Step 2: 7 + 9 = 16", "Step 3: 16 + 4 = 20"],
]


def main() -> None:
    engine = {"dtype": "float32", "enforce_eager": True}  # eager: without torch.compile, which takes half a minute
    scorer = PRMClient(sys.argv[1]) if len(sys.argv) > 1 else PRM(str(MODEL), **engine)
    with scorer as prm:
        ranking = prm.rank(QUESTION, CANDIDATES)
    for i in ranking.order:
        result = ranking.results[i]
        steps = "  ".join(f"{score:.2f}" for score in result.step_scores)
        print(f"candidate {i}: {ranking.scores[i]:.4f}   steps {steps}   first error {result.first_error()}")
    print(f"best: {CANDIDATES[ranking.best][-1]}")


if __name__ == "__main__":  # vLLM starts processes that import this file again
    main()
