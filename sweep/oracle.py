"""Compare one architecture of each kind of head with a generation engine: `python -m sweep.oracle`, about ten minutes.

One row per architecture in sweep/oracle.jsonl.
"""

from __future__ import annotations

import argparse

from sweep.architectures import registered
from sweep.batches import record
from sweep.kinds import KINDS
from sweep.rows import GENERATION_ROWS, Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", help="only these")
    record("generation", parser.parse_args().architectures or _registered_kinds(), 8, GENERATION_ROWS, _summary)


def _registered_kinds() -> list[str]:
    """The architectures of KINDS that the installed vLLM has; the others keep their rows of another vLLM."""
    names = {name for names in registered().values() for name in names}
    return [name for name in KINDS if name in names]


def _summary(row: Row) -> str:
    return f"{row['architecture']:40} {row.get('why', row.get('difference'))}"


if __name__ == "__main__":
    main()
