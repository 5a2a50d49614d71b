"""The known process reward models, each with the source of its facts.

at_tag.py        the model's own lm_head, read at the tag that ends a step
before_label.py  the model's own lm_head, read just before the label that the model would write
own_head.py      the head of a reward model that vLLM runs: classes
linear_head.py   a linear layer on the hidden states: classes, or one value
judging.py       an instruct model that is asked, read where its answer begins
"""

from typing import Any

from vllm_prm.recipes.builtin import at_tag, before_label, judging, linear_head, own_head

BUILT_IN: dict[str, dict[str, Any]] = {
    **at_tag.RECIPES,
    **before_label.RECIPES,
    **own_head.RECIPES,
    **linear_head.RECIPES,
    **judging.RECIPES,
}
