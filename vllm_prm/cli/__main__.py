"""`python -m vllm_prm.cli`, the same as `vllm-prm`."""

import sys

from vllm_prm.cli import main

if __name__ == "__main__":  # engines start processes that import this module again
    sys.exit(main())
