"""Which solutions of a batch share a request.

Knows texts and numbers, no HTTP. The invariant: every solution is in one pack, and in no other; no pack is larger than
the bounds, but a solution larger than the bound by itself has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Solution = tuple[str, list[str]]  # (question, steps)

SOLUTIONS_PER_REQUEST = 16
# About 16,000 tokens: an engine computes on them for far longer than a request costs (5 ms), so more of them together
# would save nothing. In UTF-8 and JSON they stay below the 1 MB that nginx takes by default (client_max_body_size).
CHARACTERS_PER_REQUEST = 65_536
# A small batch is cut into four requests, but not below four solutions: servers behind one address share them, and the
# first results are read while the others are computed. On one server of a tiny model, 4, 8 or 16 solutions took as long
# in two requests as in one, and 1.1 to 1.3 times as long in four; by themselves, up to twice as long.
_REQUESTS_OF_A_SMALL_BATCH = 4
_SMALL = 4


def packed(solutions: Mapping[int, Solution], solutions_per_request: int) -> list[list[int]]:
    """Indices of the solutions, each list for one request; in the order of each question's first solution.

    Solutions of one question stand side by side, in as few requests as the bounds allow: the server that computes
    their common beginning keeps it for the others.
    """
    fair = max(_SMALL, -(-len(solutions) // _REQUESTS_OF_A_SMALL_BATCH))
    packs: list[list[int]] = []
    count_left = characters_left = 0  # in the last pack, for solutions of another question
    for question_pack in _by_question(solutions, solutions_per_request):
        characters = sum(_size(solutions[i]) for i in question_pack)
        if len(question_pack) > count_left or characters > characters_left:
            packs.append([])
            count_left, characters_left = min(fair, solutions_per_request), CHARACTERS_PER_REQUEST
        packs[-1] += question_pack
        count_left -= len(question_pack)
        characters_left -= characters
    return packs


def _by_question(solutions: Mapping[int, Solution], solutions_per_request: int) -> Iterator[list[int]]:
    """The solutions of each question in pieces within the bounds, equal ones in number as far as they can be."""
    of_question: dict[str, list[int]] = {}
    for i, (question, _) in solutions.items():
        of_question.setdefault(question, []).append(i)
    for indices in of_question.values():
        pieces = -(-len(indices) // solutions_per_request)
        count = -(-len(indices) // pieces)
        piece: list[int] = []
        characters = 0
        for i in indices:
            size = _size(solutions[i])
            if piece and (len(piece) == count or characters + size > CHARACTERS_PER_REQUEST):
                yield piece
                piece, characters = [], 0
            piece.append(i)
            characters += size
        yield piece


def _size(solution: Solution) -> int:
    """Characters that the model reads for a solution."""
    question, steps = solution
    return len(question) + sum(map(len, steps))
