"""Compare one architecture of each kind of head with a generation engine: `python -m sweep.oracle`, about ten minutes.

One row per architecture in sweep/oracle.jsonl.
"""

from __future__ import annotations

import argparse

from sweep.batches import record
from sweep.kinds import KINDS
from sweep.rows import GENERATION_ROWS, Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", default=list(KINDS), help="only these")
    record("generation", parser.parse_args().architectures, 8, GENERATION_ROWS, _summary)


def _summary(row: Row) -> str:
    return f"{row['architecture']:40} {row.get('why', row.get('difference'))}"


if __name__ == "__main__":
    main()
