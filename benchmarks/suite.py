"""The whole suite: every benchmark in turn, each result in results/, and the plot of the search.

Options of a checkpoint and its engines are handed to every benchmark, so one line runs all on a real one, for
example
    python benchmarks/suite.py --model peiyi9979/math-shepherd-mistral-7b-prm --tag 12902 --scoring 648 387 \
        --dtype bfloat16 --tolerance 0.05 --block-size 16 --compile --alone
A benchmark that fails does not stop the others; the exit status says whether one did.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from turns import RESULTS

HERE = Path(__file__).parent
ENGINES = ["best_of_n", "search", "http_singles", "tail", "one_engine", "whole_vocabulary"]
ALL = [*ENGINES, "cached_blocks", "pooler_host", "host", "host_http", "one_engine_http", "data_parallel"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ALL, default=ALL)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results (default: %(default)s)")
    parser.add_argument("--long", nargs="+", help="for tail.py: tokens of the long solutions")
    parser.add_argument("--controls", action="store_true", help="for best_of_n.py: equal engines against each other")
    arguments, options = parser.parse_known_args()
    failed = []
    for name in arguments.only:
        output = arguments.results / f"{name}.json"
        its_options = options if name in ENGINES else [option for option in options if option == "--quick"]
        if name == "tail" and arguments.long:
            its_options = [*its_options, "--long", *arguments.long]
        if name == "best_of_n" and arguments.controls:
            its_options = [*its_options, "--controls"]
        print(f"== {name}", flush=True)
        start = time.monotonic()
        command = [sys.executable, str(HERE / f"{name}.py"), "--output", str(output), *its_options]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        print(f"== {name}: {time.monotonic() - start:.0f} s", flush=True)
    if "search" in arguments.only and "search" not in failed:
        drawn = ["--input", str(arguments.results / "search.json"), "--output", str(arguments.results / "search.svg")]
        subprocess.run([sys.executable, str(HERE / "plot.py"), *drawn], check=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
