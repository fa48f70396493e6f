"""mistral.rs in process, float32. It refuses calls that overlap: requests are sent as streams, one at a time."""

import base64
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.talk import Answers, Request, messages_of, serve

os.environ["MISTRALRS_CPU_KV_F32"] = "1"

import mistralrs


class MistralRs:
    """One runner; its engine batches what is in flight."""

    def __init__(self, checkpoint: str) -> None:
        which = mistralrs.Which.MultimodalPlain(
            model_id=checkpoint,
            arch=mistralrs.MultimodalArchitecture.Idefics3,
            dtype=mistralrs.ModelDType.F32,
        )
        self._runner: Any = mistralrs.Runner(which=which, max_seqs=32, prefix_cache_n=0)
        self._sending = threading.Lock()

    def run(self, requests: list[Request], at_once: int) -> Answers:
        """Keep `at_once` requests in flight."""
        started = time.process_time()
        with ThreadPoolExecutor(at_once) as pool:
            told = list(pool.map(self._ask, requests))
        return Answers(
            time.process_time() - started, sum(count for count, _ in told), [text for _, text in told]
        )

    def _ask(self, request: Request) -> tuple[int, str]:
        data = base64.b64encode(Path(request.image).read_bytes()).decode()
        picture = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
        asked = mistralrs.ChatCompletionRequest(
            messages=messages_of(request, picture),
            model="default",
            max_tokens=request.num_tokens,
            temperature=0.0,
            stream=True,
        )
        with self._sending:
            stream = self._runner.send_chat_completion_request(asked)
        pieces, count = [], 0
        for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")
            count = chunk.usage.completion_tokens if chunk.usage else count
        return count, "".join(pieces)


if __name__ == "__main__":
    serve(MistralRs(sys.argv[1]).run, f"mistralrs {version('mistralrs')}")
