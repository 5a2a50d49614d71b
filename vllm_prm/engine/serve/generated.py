"""What is asked of an engine that generates text, and what its answer says about a step.

One request per step: the prompt up to where the recipe reads, one token to generate, and the log-probabilities of the
scoring tokens. They are taken before temperature, penalties and the like (`logprobs_mode` raw_*), or where nothing of
the kind is set (processed_*), so generation settings of the server do not reach them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vllm_prm.errors import EngineError

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.outputs import RequestOutput


def sampling_params(scoring_ids: Sequence[int]) -> SamplingParams:
    """For every read of a recipe with these scoring tokens; may be shared by requests."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,  # the token itself is thrown away; the likeliest is the cheapest to choose
        logprob_token_ids=list(scoring_ids),
        detokenize=False,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def scoring_row(output: RequestOutput, scoring_ids: Sequence[int]) -> np.ndarray:
    """float32 [scoring tokens]: what the engine gave for them. Raises EngineError if it gave none for one of them."""
    (completion,) = output.outputs
    by_token = completion.logprobs[0] if completion.logprobs else {}
    if missing := [token_id for token_id in scoring_ids if token_id not in by_token]:
        raise EngineError(
            f"the engine gave no log-probability for the scoring tokens {missing}, only for {sorted(by_token)}. "
            "Please report this, with your engine flags"
        )
    return np.array([by_token[token_id].logprob for token_id in scoring_ids], dtype=np.float32)


def num_computed_tokens(output: RequestOutput) -> int:
    """How many tokens of a request's prompt did not come from the prefix cache."""
    return len(output.prompt_token_ids or ()) - (output.num_cached_tokens or 0)
