"""Step scores as each recipe's source comes to them, from the logits of transformers."""

from __future__ import annotations

from prompt_oracles import ONE_PROMPT, genprm, pathfinder

QUESTION = "What is 2 + 3 * 4 - 1?"
SOLUTIONS = [
    ["3 * 4 = 12", "2 + 12 = 14", "14 - 1 = 13. The answer is: 13"],
    ["+", "- +", "日本 2 + 2", "a\nb"],
    ["The answer is: 4"],
]


def good_shares(oracle, reads):
    """P(good) of each read: softmax over its columns, at the last token seen."""
    shares = []
    for read in reads:
        logits = oracle.logits_at(list(read.seen), [len(read.seen) - 1], read.columns)[0]
        shares.append(logits.softmax(-1)[read.good].item())
    return shares


def source_scores(name, oracle, steps, tokenizer):
    """The step scores as the source's own loop comes to them, from transformers' logits."""
    if name in ONE_PROMPT:
        return good_shares(oracle, ONE_PROMPT[name](QUESTION, steps, tokenizer))
    scores, answers = [], []
    for index in range(len(steps)):
        if name == "genprm":
            (score,) = good_shares(oracle, genprm(QUESTION, steps[: index + 1], tokenizer, answers))
            answers.append("Yes" if score > 0.5 else "No")
        else:
            asked = " Math reasoning: <extra>, Consistency: <extra>"
            score = min(good_shares(oracle, pathfinder(QUESTION, steps, tokenizer, asked, index)))
            if score > 0.5:
                asked = " Math reasoning: <+>, Consistency: <+>, Correctness: <extra>"
                (score,) = good_shares(oracle, pathfinder(QUESTION, steps, tokenizer, asked, index))
        scores.append(score)
    return scores
