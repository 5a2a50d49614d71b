"""Requests that are right, with what must come back: on our routes, and on two of vLLM's, which our pooler answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from faults.known import TOLERANCE, Broken, Known, difference

Scores = list[list[float]]


@dataclass(frozen=True)
class Ask:
    """A POST. read: the step scores in its answer, per solution."""

    path: str
    body: dict[str, Any]
    expected: Sequence[Sequence[float]]
    read: Callable[[Any], Scores]

    def check(self, status: int, answer: Any) -> float:
        """How far the scores are from the reference. Raises Broken for any other answer than theirs."""
        if status != 200:
            raise Broken(f"{self.path} answered {status} to a request that is right: {str(answer)[:300]}")
        try:
            found = self.read(answer)
        except (KeyError, IndexError, TypeError) as error:
            raise Broken(f"{self.path} answered without scores ({error!r}): {str(answer)[:300]}") from error
        away = difference(found, self.expected)
        if not away <= TOLERANCE:
            raise Broken(f"{self.path}: scores are {away:.2g} from the reference, allowed {TOLERANCE}")
        return away


def any_of(trees: Sequence[Sequence[Known]], rng: random.Random) -> Ask:
    """Of a random kind, about random beginnings of solutions to one question, as a search asks."""
    beams = rng.choice(trees)
    rounds = rng.randint(1, len(beams[0].steps))
    kind = rng.choices(KINDS, WEIGHTS)[0]
    return kind([beam.first(rounds) for beam in rng.sample(list(beams), rng.randint(1, len(beams)))])


def one(known: Known) -> Ask:
    body = {"question": known.question, "steps": list(known.steps)}
    return Ask("/v1/prm/score", body, [known.scores], _entries)


def _one(beams: list[Known]) -> Ask:
    return one(beams[0])


def _candidates(beams: list[Known]) -> Ask:
    body = {"question": beams[0].question, "candidates": [list(beam.steps) for beam in beams]}
    return Ask("/v1/prm/score", body, [beam.scores for beam in beams], _entries)


def _inputs(beams: list[Known]) -> Ask:
    body = {"inputs": [{"question": beam.question, "steps": list(beam.steps)} for beam in beams]}
    return Ask("/v1/prm/score", body, [beam.scores for beam in beams], _entries)


def embeddings(beams: list[Known]) -> Ask:
    body = {"input": [beam.text for beam in beams], "encoding_format": "float"}
    return Ask("/v1/embeddings", body, [beam.scores for beam in beams], lambda answer: _data(answer, "embedding"))


def _pooling(beams: list[Known]) -> Ask:
    body = {"input": [beam.text for beam in beams], "task": "embed"}
    return Ask("/pooling", body, [beam.scores for beam in beams], lambda answer: _data(answer, "data"))


def _get_reward(beams: list[Known]) -> Ask:
    body = {"query": [beam.text for beam in beams]}
    return Ask("/get_reward", body, [beam.scores for beam in beams], lambda answer: answer["step_scores"])


def _remote_rm(beams: list[Known]) -> Ask:
    beam = beams[0]
    body = {"prompt": beam.question, "response": "\n".join(beam.steps), "label": None}
    return Ask("/remote_rm?reply=object", body, [beam.scores], lambda answer: [answer["step_scores"]])


def _values(beams: list[Known]) -> Ask:
    body = {"input_str": [beam.text for beam in beams]}
    return Ask("/worker_value_inference", body, [beam.scores for beam in beams], lambda answer: answer["value"])


def _entries(answer: Any) -> Scores:
    return _data(answer, "step_scores")


def _data(answer: Any, field: str) -> Scores:
    return [entry[field] for entry in sorted(answer["data"], key=lambda entry: entry["index"])]


KINDS = (_one, _candidates, _inputs, embeddings, _pooling, _get_reward, _remote_rm, _values)
WEIGHTS = (6, 4, 2, 3, 1, 2, 2, 2)  # a search asks for one or for all of a question's; the others now and then
