"""The loop that a person would write: PIL, the processor, `generate` on left-padded batches until all are done."""

import sys
import time
from typing import Any

# Before transformers, which cannot import torchvision beside a CPU torch by itself.
import workers.model  # noqa: F401

# isort: split
import torch
import transformers
from PIL import Image

from benchmarks.peers.talk import Answers, Request, messages_of, serve


class Loop:
    """The model and its processor, as loaded by transformers."""

    def __init__(self, checkpoint: str) -> None:
        self._model: Any = transformers.AutoModelForMultimodalLM.from_pretrained(
            checkpoint, dtype=torch.float32
        )
        self._model.generation_config.eos_token_id = None
        self._processor: Any = transformers.AutoProcessor.from_pretrained(checkpoint)  # type: ignore[no-untyped-call]

    def run(self, requests: list[Request], at_once: int) -> Answers:
        """One batch after the other."""
        started = time.process_time()
        answers: list[list[int]] = []
        for first in range(0, len(requests), at_once):
            answers += self._batch(requests[first : first + at_once])
        return Answers(time.process_time() - started, sum(map(len, answers)), answers)

    def _batch(self, group: list[Request]) -> list[list[int]]:
        conversations = [
            messages_of(request, {"type": "image", "image": Image.open(request.image).convert("RGB")})
            for request in group
        ]
        inputs = self._processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        longest = max(request.num_tokens for request in group)
        with torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=longest, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [tokens[: request.num_tokens] for tokens, request in zip(new, group, strict=True)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(Loop(sys.argv[1]).run, f"transformers {transformers.__version__}, generate")
