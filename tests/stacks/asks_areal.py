"""AReaL runs the reward function in its pool of processes."""

import asyncio

from areal.api.reward_api import AsyncRewardWrapper
from documented import CHATML, MESSAGES, SOLUTIONS, answer, run, url_argument

asks = AsyncRewardWrapper(run("AReaL", url_argument())["reward"], max_workers=2)


async def asked(prompt, **columns):
    calls = [asks(prompt, f"{solution}<|im_end|>", [1, 2], [3], answer="12", **columns) for solution in SOLUTIONS]
    return await asyncio.gather(*calls)


rewards = asyncio.run(asked(CHATML))
of_messages = asyncio.run(asked("as the tokenizer writes it", messages=MESSAGES))
answer(rewards=rewards, of_messages=of_messages)
