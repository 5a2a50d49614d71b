"""Positions of a request: as a user lists them, and packed as our own requests hold them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_prm.engine.positions import check_positions, named_positions, names_positions, positions_request
from vllm_prm.errors import RequestError

LONGEST = 100

ascending = st.sets(st.integers(0, LONGEST - 1)).map(sorted)


@given(ascending)
def test_listed_or_packed_they_are_the_same(positions):
    for request in (
        {"prm": {"positions": positions}},
        positions_request(positions),
        positions_request(tuple(positions)),
    ):
        assert check_positions(request, LONGEST)
        assert names_positions(request)
        found = named_positions(request)
        assert found.dtype == np.int64
        assert found.tolist() == positions
        assert named_positions(copy.deepcopy(request)).tolist() == positions


@given(st.lists(st.integers(-2, LONGEST + 1), max_size=5))
def test_what_is_refused_does_not_depend_on_how_they_are_written(positions):
    refusals = []
    for request in ({"prm": {"positions": positions}}, positions_request(positions)):
        try:
            check_positions(request, LONGEST)
        except RequestError as error:
            refusals.append(str(error))
    in_order = all(a < b for a, b in zip(positions, positions[1:], strict=False))
    if in_order and all(0 <= position < LONGEST for position in positions):
        assert refusals == []
    else:
        first, second = refusals
        assert first == second


@pytest.mark.parametrize(
    "positions",
    [None, 3, "12", [1.0], ["1"], [True], [None], [0, 2**70], [np.int64(1)], b"123", b"\xff\xff\xff\xff", (1,)],
)
def test_what_is_no_list_of_positions(positions):
    with pytest.raises(RequestError, match="expected"):
        check_positions({"prm": {"positions": positions}}, LONGEST)


@pytest.mark.parametrize("request_", [[1], {"position": [1]}, {"positions": [1], "more": 2}, 3])
def test_what_names_no_positions(request_):
    with pytest.raises(RequestError, match='expected {"positions"'):
        check_positions({"prm": request_}, LONGEST)


@pytest.mark.parametrize("extra_kwargs", [None, {}, {"other": 1}])
def test_a_request_without_positions(extra_kwargs):
    assert not check_positions(extra_kwargs, LONGEST)
    assert not names_positions(extra_kwargs)
    assert named_positions(extra_kwargs) is None
