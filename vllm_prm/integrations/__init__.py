"""Drop-ins: a served PRM in the shape that RL stacks and search libraries ask for. docs/integrations.md shows each.

served.py            what they share: one client for each address and process, rewards from it in any event loop
verl.py              verl's custom reward function
ms_swift.py          ms-swift's AsyncORM
skyrl.py             SkyRL's text environment
areal.py             AReaL's reward function
its_hub.py           its_hub's process reward model
search_and_learn.py  search-and-learn's PRM

No module imports its stack: it has the methods that the stack calls. TRL takes `PRMClient.reward_fn()`, and OpenRLHF,
slime, vime and OpenR ask the server themselves (`/get_reward`, `/remote_rm`, `/worker_value_inference`). Each module
says which version was read.
"""
