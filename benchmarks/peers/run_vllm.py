"""vLLM's CPU build, in process: eager, no prefix or processor cache, since every picture is new."""

import os
import sys
import time
from typing import Any

from benchmarks.peers.talk import Answers, Request, prompt_of, serve

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}

import vllm
from PIL import Image


class Vllm:
    """One engine that is stepped by hand."""

    def __init__(self, checkpoint: str) -> None:
        self._engine: Any = vllm.LLM(
            checkpoint,
            dtype="float32",
            max_model_len=512,
            max_num_seqs=32,
            enforce_eager=True,
            limit_mm_per_prompt={"image": 1},
            enable_prefix_caching=False,
            mm_processor_cache_gb=0,
            disable_log_stats=True,
        ).llm_engine
        self._number = 0

    def run(self, requests: list[Request], at_once: int) -> Answers:
        """Keep `at_once` requests in the engine."""
        started = time.process_time()
        answers: list[list[int]] = [[] for _ in requests]
        places: dict[str, int] = {}
        waiting = list(enumerate(requests))[::-1]
        while waiting or places:
            while waiting and len(places) < at_once:
                place, request = waiting.pop()
                places[self._submit(request)] = place
            for output in self._engine.step():
                if output.finished:
                    answers[places.pop(output.request_id)] = list(output.outputs[0].token_ids)
        return Answers(time.process_time() - started, sum(map(len, answers)), answers)

    def _submit(self, request: Request) -> str:
        self._number += 1
        name = str(self._number)
        picture = Image.open(request.image).convert("RGB")
        sampling = vllm.SamplingParams(
            temperature=0, max_tokens=request.num_tokens, ignore_eos=True, detokenize=False
        )
        self._engine.add_request(
            name, {"prompt": prompt_of(request), "multi_modal_data": {"image": picture}}, sampling
        )
        return name


if __name__ == "__main__":
    serve(Vllm(sys.argv[1]).run, f"vLLM {vllm.__version__} (CPU, eager)")
