"""OpenR asks FastChat's controller for an address, and that address for values, as its reason/inference/value.py does.

OpenR is no package; what asks here is its call, the controller is FastChat's own, and the page's command registers us.
"""

import json
import os
import socket
import subprocess
import sys
import time

import httpx
from documented import SOLUTIONS, TOO_LONG, answer, block, openr_text, url_argument, words

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
listens = [sys.executable, "-m", "fastchat.serve.controller", "--host", "localhost", "--port", str(port)]
controller = subprocess.Popen(listens, env={**os.environ, "LOGDIR": ""}, stdout=subprocess.DEVNULL)
try:
    with httpx.Client(base_url=f"http://localhost:{port}") as asks:
        for _ in range(300):
            try:
                asks.get("/test_connection").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        command = block("OpenR", url_argument()).replace("localhost:28777", f"localhost:{port}")
        subprocess.run(["bash", "-c", command], check=True, stdout=subprocess.DEVNULL)
        (name,) = json.loads(words("OpenR", url_argument())[-1])["worker_status"]["model_names"]
        texts = [openr_text(solution) for solution in (*SOLUTIONS[:2], TOO_LONG)]
        values = []
        for asked in (texts, texts[1]):
            address = asks.post("/get_worker_address", json={"model": name}).json()["address"]
            values.append(httpx.post(f"{address}/worker_value_inference", json={"input_str": asked}).json()["value"])
finally:
    controller.kill()
answer(values=values[0], of_one=values[1])
