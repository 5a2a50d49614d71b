"""Which solutions of a batch share a request.

Knows texts and numbers, no HTTP. The invariant: every solution is in one pack, and in no other; no pack is larger than
the bounds, but a solution larger than the bound by itself has its own. A question with images shares its packs with no
other question, so that its images, which may be data URLs of megabytes, are sent once per pack; they come on top.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from vllm_prm.questions import Question, question_key, question_text

Solution = tuple[Question, list[str]]  # (question, steps)

SOLUTIONS_PER_REQUEST = 16
# About 16,000 tokens, of four characters: an engine computes on them for far longer than a request costs (5 ms), so
# more of them together would save nothing. In UTF-8 and JSON they stay below the 1 MB that nginx takes by default
# (client_max_body_size).
CHARACTERS_PER_REQUEST = 65_536
# A small batch is cut into four requests, but not below four solutions: servers behind one address share them, and the
# first results are read while the others are computed. On one server of a tiny model, 4, 8 or 16 solutions took as long
# in two requests as in one, and 1.1 to 1.3 times as long in four; by themselves, up to twice as long.
_REQUESTS_OF_A_SMALL_BATCH = 4
_SMALL = 4


def packed(
    solutions: Mapping[int, Solution], solutions_per_request: int, keep_questions_apart: bool = False
) -> list[list[int]]:
    """Indices of the solutions, each list for one request; about in the order of each question's first solution.

    Solutions of one question stand side by side, in as few requests as the bounds allow: the server that computes
    their common beginning keeps it for the others.
    """
    sizes = {i: len(question_text(question)) + sum(map(len, steps)) for i, (question, steps) in solutions.items()}
    of_question: dict[Hashable, list[int]] = {}
    for i, (question, _) in solutions.items():
        of_question.setdefault(question_key(question), []).append(i)
    pieces: list[list[int]] = []
    with_images: list[list[int]] = []
    for indices in of_question.values():
        requests = -(-len(indices) // solutions_per_request)
        equal_count = -(-len(indices) // requests)
        packs = with_images if isinstance(solutions[indices[0]][0], list) else pieces
        packs += _joined(([i] for i in indices), sizes, equal_count)
    if keep_questions_apart:
        return pieces + with_images
    fair_count = max(_SMALL, -(-len(solutions) // _REQUESTS_OF_A_SMALL_BATCH))
    return _joined(pieces, sizes, min(fair_count, solutions_per_request)) + with_images


def _joined(pieces: Iterable[list[int]], sizes: Mapping[int, int], count: int) -> list[list[int]]:
    """Pieces put together, in order, within `count` solutions and CHARACTERS_PER_REQUEST.

    A piece that does not fit beside the last ones begins another pack. The next pieces go to whichever of the two
    packs has more room, so a single long solution does not end a pack that is hardly filled.
    """
    packs: list[list[int]] = []
    open_pack, open_room = -1, (0, 0)  # its index; how many more solutions and characters it takes
    for piece in pieces:
        characters = sum(sizes[i] for i in piece)
        if len(piece) <= open_room[0] and characters <= open_room[1]:
            packs[open_pack] += piece
            open_room = open_room[0] - len(piece), open_room[1] - characters
            continue
        packs.append(list(piece))
        room = count - len(piece), CHARACTERS_PER_REQUEST - characters
        if _share(room, count) >= _share(open_room, count):
            open_pack, open_room = len(packs) - 1, room
    return packs


def _share(room: tuple[int, int], count: int) -> float:
    """How much of an empty pack's room this is, by the scarcer of its two bounds."""
    return min(room[0] / count, room[1] / CHARACTERS_PER_REQUEST)
