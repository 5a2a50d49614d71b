"""Put the Python files of a vLLM wheel in the place of those of the installed vLLM, and keep its compiled kernels.

Run it with the environment's own Python: python lay_over.py vllm-0.33.0-....whl
"""

from __future__ import annotations

import sys
import sysconfig
import zipfile
from pathlib import Path


def main(wheel: str) -> None:
    site = Path(sysconfig.get_path("purelib"))
    for path in (site / "vllm").rglob("*"):
        if path.is_file() and path.suffix != ".so":
            path.unlink()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("vllm/") and not name.endswith((".so", "/")):
                archive.extract(name, site)


if __name__ == "__main__":
    main(sys.argv[1])
