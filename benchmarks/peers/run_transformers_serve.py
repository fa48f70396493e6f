"""`transformers serve`, over HTTP on loopback; its server's CPU-seconds are counted, the client's are not."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.talk import Answers, Request, messages_of, serve

TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 120


class Serve:
    """The server process and a client with as many connections as requests are in flight."""

    def __init__(self, checkpoint: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._checkpoint = checkpoint
        self._url = f"http://127.0.0.1:{port}"
        options = [
            "--device",
            "cpu",
            "--dtype",
            "float32",
            "--attn-implementation",
            "sdpa",
            "--port",
            str(port),
        ]
        command = [str(Path(sys.executable).with_name("transformers")), "serve", checkpoint, *options]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self._wait_until_it_answers()

    def run(self, requests: list[Request], at_once: int) -> Answers:
        """Keep `at_once` requests in flight."""
        started = self._cpu_seconds()
        with ThreadPoolExecutor(at_once) as pool:
            told = list(pool.map(self._ask, requests))
        return Answers(
            self._cpu_seconds() - started, sum(count for count, _ in told), [text for _, text in told]
        )

    def close(self) -> None:
        """End the server."""
        self._server.terminate()
        self._server.wait(30)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            try:
                urllib.request.urlopen(self._url + "/health", timeout=5).close()
            except OSError:
                time.sleep(0.5)
            else:
                return
        raise RuntimeError("transformers serve did not start")

    def _ask(self, request: Request) -> tuple[int, str]:
        data = base64.b64encode(Path(request.image).read_bytes()).decode()
        picture = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
        body = {
            "model": self._checkpoint,
            "messages": messages_of(request, picture),
            "max_tokens": request.num_tokens,
            "temperature": 0,
            "stream": False,
            "generation_config": json.dumps({"do_sample": False, "max_new_tokens": request.num_tokens}),
        }
        headers = {"Content-Type": "application/json"}
        call = urllib.request.Request(
            self._url + "/v1/chat/completions", json.dumps(body).encode(), headers=headers
        )
        with urllib.request.urlopen(call, timeout=300) as response:
            answer = json.load(response)
        return answer["usage"]["completion_tokens"], answer["choices"][0]["message"]["content"]

    def _cpu_seconds(self) -> float:
        """User and system time of the server, from /proc: fields 14 and 15, counted behind the name in brackets."""
        fields = Path(f"/proc/{self._server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    peer = Serve(sys.argv[1])
    try:
        serve(peer.run, f"transformers serve {version('transformers')}")
    finally:
        peer.close()
