"""vLLM's wire between front end and engine carries packed positions as they are, and copies of them cost nothing."""

from __future__ import annotations

import pytest
from vllm.pooling_params import PoolingParams
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from vllm_prm.engine.positions import KEY, check_positions, named_positions, positions_request


@pytest.mark.parametrize("positions", [[], [0], [3, 5, 70_000], list(range(0, 100_000, 3))])
def test_positions_reach_the_worker(positions):
    params = PoolingParams(task="embed", extra_kwargs=positions_request(positions))
    sent = MsgpackDecoder(PoolingParams).decode(MsgpackEncoder().encode(params.clone()))
    assert check_positions(sent.extra_kwargs, 100_000)
    assert named_positions(sent.extra_kwargs).tolist() == positions


def test_a_copy_of_the_parameters_shares_them():
    """vLLM deep-copies the parameters of every request (`PoolingParams.clone`)."""
    params = PoolingParams(task="embed", extra_kwargs=positions_request(range(1000)))
    assert params.clone().extra_kwargs[KEY]["positions"] is params.extra_kwargs[KEY]["positions"]
