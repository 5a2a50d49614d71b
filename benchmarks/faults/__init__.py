"""What must hold when things break, tried for real: `make soak`, and docs/reliability.md for what came of it.

known.py      solutions, and what they must score, by transformers
asks.py       requests that are right, on every route, and what their answers say
server.py     a server of the tiny PRM; its memory and its figures
soak.py, hostile.py, slow.py, kill.py, commandline.py   the faults: functions that raise Broken, or give figures
plan.py, work.py, __main__.py, report.py                pieces of one fault each, their processes, their table
"""
