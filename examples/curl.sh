#!/usr/bin/env bash
# Ask a server with nothing but curl. Start one first:
#   VLLM_PLUGINS=prm vllm serve examples/tiny-prm --task embed --dtype float32
# Then: examples/curl.sh [http://localhost:8000]
set -euo pipefail
server=${1:-http://localhost:8000}
key=(${VLLM_API_KEY:+-H "Authorization: Bearer $VLLM_API_KEY"})

ask() { # ask PATH JSON
    curl --silent --show-error --fail-with-body "$server$1" -H 'Content-Type: application/json' "${key[@]}" -d "$2"
    echo
}

echo "# one solution: a score for each step, and the first wrong one"
ask /v1/prm/score '{"question": "Mia has 12 apples. She buys 5. She eats 9. How many now?",
                    "steps": ["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 7"]}'

echo "# candidates: the best one"
ask /v1/prm/score '{"question": "Mia has 12 apples. She buys 5. She eats 9. How many now?", "aggregate": "min",
                    "candidates": [["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 7"],
                                   ["Step 1: 12 + 5 = 17", "Step 2: 17 - 9 = 8"]]}'

echo "# vLLM's own embeddings route, which needs no VLLM_PLUGINS; here the text carries the step tags"
ask /v1/embeddings '{"input": "Mia has 12 apples. She buys 5. How many now? Step 1: 12 + 5 = 17 ки"}'
