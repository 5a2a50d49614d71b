"""What a recipe is, as validated, frozen dataclasses.

A recipe says which token ends a step (the step tag), at which position next to it the model is read, which
vocabulary entries are read there (the scoring tokens) and how much each counts as "good". Tokens are named by their
vocabulary *piece* (`▁+`), not by text: text goes through a tokenizer whose rules differ between libraries (`"+"` is
648 or 28806 in the same Mistral vocabulary), a piece is one row of the head.

In JSON:

    {"name": "my-prm",
     "step_tag": {"piece": "▁ки", "id": 12902},
     "scoring_tokens": {"good": {"piece": "▁+", "id": 648, "weight": 1.0},
                        "bad":  {"piece": "▁-", "id": 387, "weight": 0.0}},
     "prompt": {"kind": "raw", "question": "{question} ", "step": "Step {k}: {step}", "separator": "\\n"},
     "probe": {"text": "+ - ки", "ids": [1, 648, 387, 12902]},
     "source": "where these facts come from"}

`prompt` is described in `recipes.prompt`; without one, a prompt is the question, a newline, and the steps, each
followed by the tag's text. A bare string stands for `{"piece": ...}`. An id beside a piece is a check; an id alone is
taken as it is. A step tag whose piece (or id) is a list is a token sequence; `{"text": ...}` is whatever tokens the
served tokenizer makes of that text on its own. A list of step tags means that any of them ends a step; an empty list,
that a step ends with its own last token, which only prompts of kind "segments" know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from vllm_prm.errors import RecipeError
from vllm_prm.recipes.prompt import PromptFormat
from vllm_prm.recipes.tokens import STRICT, Probe, ScoringToken, StepTag, Text, labelled, tags

_PLAIN = PromptFormat()  # of a recipe without a prompt section

# The head of transformers' ...ForTokenClassification: of decoders (modeling_layers.GenericForTokenClassification), and
# of encoders and some older classes (BertForTokenClassification).
TOKEN_CLASSIFICATION = ("score", "classifier")
FIRST_ERROR_THRESHOLD = 0.5  # ProcessBench's, https://github.com/QwenLM/ProcessBench

Aggregation = Literal["min", "product", "mean", "last", "sum_log"]
Neutral = Literal["good", "bad", "skip"]  # what a step counts as that people rated neither right nor wrong


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """Everything that makes a checkpoint a PRM. Validated on construction.

    The step score is sum(weight_i * p_i), p the activation of the scoring tokens' logits at the position that is
    read: the step tag's last token, plus `offset` (-1: the model is read just before the tag's last token).

    head: what the logits come from. "lm_head": the model's own output head, a column per scoring token. "own": the
        model is a reward model that vLLM runs, and its output has one column per class (scoring tokens carry class
        indices as ids, no pieces). "linear": a linear layer on the hidden states of a language model, which the
        checkpoint has in the place of its output head or beside it; one column per class, all of them named.
    head_names: what that linear layer may be called in the checkpoint, `NAME.weight` and (if it has one) `NAME.bias`.
    activation: "softmax" over the scoring tokens, "full_softmax" over the whole vocabulary (what stands for logits is
        then their logarithm), or "sigmoid" of each.
    answer_mass: whether to tell how much of the whole vocabulary's probability the scoring tokens have together
        (StepScores.answer_mass): a model that was asked, and rather says something else, is no judge. The output head
        runs whole for it, as for "full_softmax".
    threshold: a step that scores below it is wrong.
    aggregation: how the field turns this model's step scores into one number per solution, unless asked otherwise.
    neutral: what steps that people rated neutral are for it, as its training counted them; `evaluate` measures it so.
        "skip": they are not measured. None: its source does not say, and they count as the data's authors count them.
    prompt: how (question, steps) become the prompt; None: the question, a newline, and the steps with their tags.
    architecture: the class vLLM is to load the model as, where its config.json names one that vLLM does not know.
    models: names (last part, any case) that this recipe applies to by itself.
    """

    name: Annotated[Text, Field(min_length=1)]
    step_tag: Annotated[tuple[StepTag, ...], BeforeValidator(tags)]
    scoring_tokens: Annotated[tuple[ScoringToken, ...], BeforeValidator(labelled), Field(min_length=1)]
    offset: Literal[0, -1] = 0
    head: Literal["lm_head", "own", "linear"] = "lm_head"
    head_names: Annotated[tuple[Text, ...], Field(min_length=1)] = TOKEN_CLASSIFICATION
    activation: Literal["softmax", "full_softmax", "sigmoid"] = "softmax"
    answer_mass: Annotated[bool, Field(strict=True)] = False
    threshold: Annotated[float, Field(strict=True)] = FIRST_ERROR_THRESHOLD
    aggregation: Aggregation = "min"
    neutral: Neutral | None = None
    architecture: Text | None = None
    source: Text = ""
    probe: Probe | None = None
    prompt: PromptFormat | None = None
    models: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        if fault := next(chain(self._unset(), self._token_faults(), self._judge_faults(), self._score_faults()), None):
            raise RecipeError(f"recipe {self.name!r} {fault}")

    def _unset(self) -> Iterator[str]:
        unset = [
            f"the {token.label!r} token"
            for token in self.scoring_tokens
            if not token.piece and token.id is None and not any(token.words)
        ]
        if any(not tag.text and tag.id is None and (not tag.pieces or not all(tag.pieces)) for tag in self.step_tag):
            unset.insert(0, "the step tag")
        if unset:
            yield (
                f"leaves {', '.join(unset)} to you; name each as a vocabulary piece, for example "
                f"{_example(self.name, self.labels)}"
            )

    def _token_faults(self) -> Iterator[str]:
        kind = self.prompt_format.kind
        if not self.step_tag and kind not in ("segments", "judge"):
            yield (
                "has no step tag, so only a prompt of kind 'segments' or 'judge' knows where a step ends, and its "
                f"prompt is of kind {kind!r}; name a step tag"
            )
        for tag in self.step_tag:
            if tag.text is not None and (tag.piece is not None or tag.id is not None):
                yield f"has a step tag with the text {tag.text!r} and a piece or an id; give one of the two"
            if len(tag.pieces) != len(tag.ids):
                yield (
                    f"has a step tag of {len(tag.pieces)} pieces and {len(tag.ids)} ids, {tag.piece!r} and {tag.id!r}; "
                    "give one id for each piece, or leave the ids out"
                )
        names = [token.words or token.piece or token.id for token in self.scoring_tokens]
        if len(set(names)) != len(names):
            yield f"names a piece twice among its scoring tokens: {names}"
        if self.head != "lm_head" and (with_piece := [token for token in self.scoring_tokens if token.piece]):
            yield (
                f"reads a head of the model's own ({self.head!r}), whose columns have numbers and no pieces, but its "
                f"{with_piece[0].label!r} token has the piece {with_piece[0].piece!r}; give the column's number as id"
            )
        ids = [token.id for token in self.scoring_tokens]
        if self.head == "linear" and set(ids) != {*range(len(ids))}:
            yield (
                f"reads a linear head of {len(ids)} columns, but its scoring tokens have the ids {ids}; name every "
                "column of the head, from 0 on, those that do not count with weight 0"
            )

    def _score_faults(self) -> Iterator[str]:
        """What has no meaning, would give every step the same score, scores beyond 1, or a wrong step a high one."""
        if not any(self.weights):
            yield (
                "has weight 0 for every scoring token, so every step would score 0; give the token that means a good "
                "step weight 1"
            )
        if self.activation == "full_softmax" and self.head != "lm_head":
            yield (
                f"takes the softmax over the vocabulary ('full_softmax'), but reads the head {self.head!r}, which has "
                "a column for each class and no others; give the activation 'softmax'"
            )
        if self.activation == "softmax" and len(set(self.weights)) == 1:
            yield (
                f"takes the softmax over scoring tokens that all have weight {self.weights[0]:g}, so every step would "
                "score the same; give a second token with another weight, or the activation 'full_softmax' (over the "
                "whole vocabulary) or 'sigmoid'"
            )
        if self.activation == "sigmoid" and sum(weight for weight in self.weights if weight > 0) > 1:
            yield (
                f"adds up sigmoids with the weights {list(self.weights)}, so a step could score more than 1; "
                "give weights that sum to 1 at most"
            )
        kind, asks_again = self.prompt_format.kind, self.prompt_format.asks_again
        if asks_again and self.head != "lm_head":
            yield (
                f"has a prompt of kind {kind!r}, which writes the likelier scoring token back into the prompt, but "
                f"reads the head {self.head!r}, whose columns are no tokens; such a prompt needs the head 'lm_head'"
            )
        if asks_again and self.activation != "softmax":
            yield (
                f"has a prompt of kind {kind!r}, where the scoring tokens compete for one answer, but the activation "
                f"{self.activation!r}, by which a step judged wrong may score high; such a prompt needs 'softmax'"
            )

    def _judge_faults(self) -> Iterator[str]:
        kind = self.prompt_format.kind
        if kind == "judge" and (self.step_tag or self.offset):
            yield (
                "has a prompt of kind 'judge', which is read where the model's answer begins; give it no step tag "
                '("step_tag": []) and no offset'
            )
        if with_words := next((token for token in self.scoring_tokens if token.words), None):
            if kind != "judge":
                yield (
                    f"gives words for its {with_words.label!r} token, which only a prompt of kind 'judge' looks up, "
                    f"and its prompt is of kind {kind!r}; give the vocabulary's piece"
                )
            if any(token.words and (token.piece or token.id is not None) for token in self.scoring_tokens):
                yield "gives a scoring token words and a piece or an id; give one of the two"
        if self.answer_mass and (self.head != "lm_head" or self.activation == "sigmoid"):
            yield (
                "tells the answers' mass, which is their share of the vocabulary's probability, but has the head "
                f"{self.head!r} and the activation {self.activation!r}; it needs the head 'lm_head' and a softmax"
            )
        if kind == "judge" and self.head != "lm_head":
            yield (
                f"has a prompt of kind 'judge', which is answered in words, but reads the head {self.head!r}; such a "
                "prompt needs the head 'lm_head'"
            )

    @property
    def prompt_format(self) -> PromptFormat:
        """`prompt`, or the format of a recipe that has none."""
        return self.prompt or _PLAIN

    @property
    def reads_vocabulary(self) -> bool:
        """Whether the scoring tokens' log-probabilities over the whole vocabulary are read, in the place of logits."""
        return self.activation == "full_softmax" or self.answer_mass

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(token.weight for token in self.scoring_tokens)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(token.label for token in self.scoring_tokens)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: a mapping that `load_recipe` reads back to an equal recipe."""
        fields = asdict(self)
        fields["scoring_tokens"] = {token.pop("label"): token for token in fields["scoring_tokens"]}
        return fields

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def _example(name: str, labels: Sequence[str]) -> str:
    tokens = {label: f"▁{label}" for label in labels}
    fields = {"base": name, "step_tag": "▁ки", "scoring_tokens": tokens}
    return f"--prm '{json.dumps(fields, ensure_ascii=False)}'"
