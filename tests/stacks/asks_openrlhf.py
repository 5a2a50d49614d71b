"""OpenRLHF's executor generates (with a stand-in for its engine) and asks for the reward of what it got."""

import asyncio
from types import SimpleNamespace

from documented import CHATML, SOLUTIONS, answer, url_argument, words
from openrlhf.utils.agent import SingleTurnAgentExecutor

typed = words("OpenRLHF", url_argument())
urls = typed[typed.index("--reward.remote_url") + 1].split(",")  # as its train_ppo_ray.py reads the flag
texts = [CHATML, *(f"{solution}<|im_end|>" for solution in SOLUTIONS)]


class Tokenizer:
    """One token for each text."""

    def __call__(self, text, **_):
        return {"input_ids": [SimpleNamespace(tolist=lambda: [texts.index(text)])]}

    def decode(self, ids, skip_special_tokens):
        return "".join(texts[i] for i in ids)


class Engine:
    def __init__(self, number):
        self.number = number

    async def generate(self, prompt_ids, params, multi_modal_data=None):
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=[self.number + 1], finish_reason="stop", logprobs=None)]
        )


async def asked():
    executor = SingleTurnAgentExecutor(urls)
    params = SimpleNamespace(max_tokens=16, logprobs=None)
    return [
        await executor.execute(CHATML, "12", params, 64, Tokenizer(), Engine(number))
        for number in range(len(SOLUTIONS))
    ]


outputs = asyncio.run(asked())
answer(**{name: [output[name] for output in outputs] for name in ("reward", "scores", "extra_logs")})
