"""What runs in the front end: from solutions to prompts, and from logits back to step scores.

offline.py   PRM: on an engine in this process
serving.py   PRMServing: on the engine of vLLM's API server
routes.py    the HTTP routes, as an endpoint plugin of that server
bodies.py    the routes' bodies: requests of the wire -> responses of the wire
"""
