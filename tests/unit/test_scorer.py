"""The scorer base class and TRL's reward function, on a scorer whose scores are known: it reads them from the text."""

from __future__ import annotations

import logging

import pytest

from vllm_prm.errors import BatchError, EngineError, PRMError, RequestError
from vllm_prm.recipes import load_recipe
from vllm_prm.scorer import Scorer, checked_items, settled
from vllm_prm.scores import StepScores

RECIPE = load_recipe("math-shepherd")


class ReadsScores(Scorer):
    """Steps are written as their scores; an empty step is refused, 'down' is a failure of the scorer."""

    recipe = RECIPE

    def __init__(self):
        self.seen = []
        self.closed = 0

    def score_batch(self, items, *, on_error="raise", progress=True):
        checked = checked_items(items, on_error)
        self.seen += checked
        return settled([item if isinstance(item, PRMError) else self._one(*item) for item in checked], on_error)

    def _one(self, question, steps):
        if "down" in steps:
            return EngineError("the server is gone")
        if not steps or not all(steps):
            return RequestError("a step is empty")
        return StepScores(tuple(map(float, steps)), aggregation=RECIPE.aggregation)

    def close(self):
        self.closed += 1


@pytest.fixture
def scorer():
    return ReadsScores()


def test_score(scorer):
    assert scorer.score("q", ["0.5", "0.9"]).step_scores == (0.5, 0.9)
    with pytest.raises(RequestError, match="step 2 of 2 is empty"):
        scorer.score("q", ["0.5", ""])


def test_pairs_and_mappings_are_the_same(scorer):
    items = [("q", ["0.1"]), ["q", ("0.1",)], {"question": "q", "steps": ["0.1"], "label": 7}]
    assert len(set(scorer.score_batch(items))) == 1
    assert scorer.score_batch(iter(items)) == scorer.score_batch(items)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("abc", r'item 1 is the text "abc"; expected a \(question, steps\) pair'),
        (("q",), "item 1 is a list of 1"),
        ({"question": "q"}, r"item 1 has no 'steps', only \['question'\]"),
        ({"text": 1}, "item 1 has no 'question' and no 'steps'"),
        ((7, ["a"]), "item 1: question is the number 7"),
        (("q", "a b"), "item 1: steps is one text"),
        (("q", 7), "item 1: steps is the number 7"),
        (("q", ["0.5", None]), "item 1: step 2 of 2 is null"),
    ],
)
def test_a_malformed_item_is_named_and_costs_the_others_nothing(scorer, item, says):
    results = scorer.score_batch([("q", ["0.5"]), item], on_error="return")
    assert results[0].step_scores == (0.5,)
    assert isinstance(results[1], RequestError)
    with pytest.raises(BatchError, match=says) as caught:
        scorer.score_batch([("q", ["0.5"]), item])
    assert caught.value.results[0].step_scores == (0.5,)


@pytest.mark.parametrize("items", ["q", {"question": "q", "steps": ["a"]}, None])
def test_items_must_be_a_list(scorer, items):
    with pytest.raises(RequestError, match="expected a list of"):
        scorer.score_batch(items)


def test_on_error_has_two_values(scorer):
    with pytest.raises(RequestError, match="'ignore'; expected 'raise' or 'return'"):
        scorer.score_batch([], on_error="ignore")


def test_rank(scorer):
    ranking = scorer.rank("q", [["0.9", "0.2"], ["0.5"], ["0.5", "0.6"]])
    assert ranking.order == (1, 2, 0)
    assert ranking.aggregation == "min"
    assert scorer.rank("q", [["0.9", "0.2"], ["0.5"]], aggregate="mean").best == 0


def test_rank_refuses_before_scoring(scorer):
    for candidates, how in (([], None), ("0.5", None), ([["0.5"]], "median")):
        with pytest.raises(RequestError):
            scorer.rank("q", candidates, aggregate=how)
    assert scorer.seen == []


def test_rank_with_a_bad_candidate_keeps_the_others(scorer):
    with pytest.raises(BatchError) as caught:
        scorer.rank("q", [["0.9"], [""]])
    assert caught.value.results[0].step_scores == (0.9,)


def test_context_manager(scorer):
    with scorer as same:
        assert same is scorer
    assert scorer.closed == 1


# ---- reward functions, called the way TRL 1.16's GRPOTrainer calls them: by keyword, with extras


def call(function, prompts, completions):
    return function(
        prompts=prompts,
        completions=completions,
        completion_ids=[[1]] * len(prompts),
        trainer_state=object(),
        log_extra=print,
        log_metric=print,
        answer=["4"] * len(prompts),
    )


def test_rewards_of_plain_texts(scorer):
    reward = scorer.reward_fn(split="\n")
    assert call(reward, ["q1", "q2"], ["0.9\n0.4\n\n", " 0.7 "]) == [0.4, 0.7]
    assert scorer.seen == [("q1", ["0.9", "0.4"]), ("q2", ["0.7"])]
    assert reward.__name__ == "math-shepherd_min"
    assert scorer.reward_fn("mean", split="\n").__name__ == "math-shepherd_mean"
    assert call(scorer.reward_fn("mean", split="\n"), ["q"], ["0.9\n0.5"]) == [pytest.approx(0.7)]


def test_rewards_of_messages(scorer):
    prompt = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "earlier"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the question"}]},
    ]
    completion = [
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "0.1"},
        {"role": "assistant", "content": "0.8\n0.6"},
    ]
    assert call(scorer.reward_fn(split="\n"), [prompt], [completion]) == [0.6]
    assert scorer.seen == [("the question", ["0.8", "0.6"])]


def test_steps_by_the_recipe_and_by_a_function(scorer):
    assert call(scorer.reward_fn(), ["q"], ["0.8 ки\n0.6 ки"]) == [0.6]
    assert call(scorer.reward_fn(split=str.split), ["q"], ["0.8 0.5"]) == [0.5]


@pytest.mark.parametrize("split", [None, "\n", str.split])
def test_a_completion_that_cannot_be_scored_gets_none_and_one_warning(scorer, caplog, split):
    reward = scorer.reward_fn(split=split)
    with caplog.at_level(logging.WARNING):
        assert call(reward, ["q"] * 3, ["", "0.7", [{"role": "assistant", "content": ""}]]) == [None, 0.7, None]
        assert call(reward, ["q"], [" \n "]) == [None]
    assert len(caplog.records) == 1
    assert "no reward" in caplog.text


def test_a_tag_alone_is_no_step(scorer):
    assert call(scorer.reward_fn(), ["q", "q"], [" ки", "0.5 ки"]) == [None, 0.5]


def test_a_completion_that_the_scorer_refuses_gets_none(scorer):
    assert call(scorer.reward_fn(split=lambda text: text.split("|")), ["q", "q"], ["0.5||0.5", "0.5"]) == [None, 0.5]


def test_a_failing_scorer_stops_training(scorer):
    with pytest.raises(BatchError, match="the server is gone"):
        call(scorer.reward_fn(split="\n"), ["q", "q"], ["down", "0.5"])


@pytest.mark.parametrize(
    ("prompts", "completions", "says"),
    [
        (["q"], [], "1 prompts and 0 completions"),
        ([7], ["0.5"], "a prompt is the number"),
        ([[{"role": "system", "content": "x"}]], ["0.5"], "none from the user"),
        (["q"], [{"text": "0.5"}], "a completion is an object of 1 field;"),
    ],
)
def test_what_trl_never_sends(scorer, prompts, completions, says):
    with pytest.raises(RequestError, match=says):
        call(scorer.reward_fn(split="\n"), prompts, completions)


def test_bad_options_are_refused_at_once(scorer):
    with pytest.raises(RequestError, match="no aggregation 'max'"):
        scorer.reward_fn("max")
    with pytest.raises(RequestError, match="split is empty"):
        scorer.reward_fn(split="")
