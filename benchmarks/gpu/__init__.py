"""A GPU in a quarter of an hour: `make gpu` checks and measures this package on a machine that has a GPU and a vLLM.

pieces.py runs pieces of work, each in a process of its own, and keeps what they say; it knows nothing of engines.
plan.py lists them. A piece's process starts in work.py, and is one of checks.py, entrances.py, suites.py or figures.py.
report.py writes what they said as tables.
"""
