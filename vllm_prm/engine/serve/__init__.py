"""What runs in the front end: from solutions to prompts, and from logits back to step scores.

offline.py    PRM: on an engine in this process
serving.py    PRMServing: on the engine of vLLM's API server
planning.py   Planner: solutions that are there at the same time, tokenized together
pictures.py   Pictures: questions with images, through vLLM's own code, and their prompts
endpoints.py  puts our HTTP routes on that server: its endpoint plugin
routes.py     the HTTP routes
refusals.py   what the routes answer instead of scores
ending.py     every request is answered when the server is told to end
bodies.py     the routes' bodies: requests of the wire -> responses of the wire
"""
