"""vLLM's own `LLM` with a recipe: the embedding of a text with step tags is the list of its step scores."""

from vllm import LLM


def main() -> None:
    llm = LLM(
        "examples/tiny-prm",
        runner="pooling",
        convert="embed",
        hf_overrides={"prm": "examples/tiny-prm/prm.json"},  # or a recipe's name, such as "math-shepherd"
        dtype="float32",
    )
    question = "Mia has 12 apples. She buys 5. She eats 9. How many now?"
    solutions = [f"{question} Step 1: 12 + 5 = 17 ки\nStep 2: 17 - 9 = {answer} ки" for answer in (8, 7)]
    for output in llm.embed(solutions):
        print([round(score, 3) for score in output.outputs.embedding])


if __name__ == "__main__":
    main()
