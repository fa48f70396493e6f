"""Our engine, fed as the desk feeds it: decoded pictures through the prompter, ahead by as many as there are slots."""

import sys
import time

import numpy as np
from PIL import Image

from benchmarks.peers.talk import Answers, Request, messages_of, serve
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Sampling, Sequence
from workers.media.decoded import DecodedImage
from workers.model.choose_model import Limits, make_slot_model
from workers.model.loading import LoadOptions, load
from workers.model.prompting.prepared import Prepared
from workers.opening import PREFILL_TOKENS

CONTEXT_TOKENS = 512


class Ours:
    """The model as a worker loads it."""

    def __init__(self, checkpoint: str) -> None:
        options = LoadOptions(checkpoint, device="cpu", dtype="float32", num_threads=1)
        self._loaded = load(options)
        self._engines: dict[int, Engine] = {}

    @property
    def about(self) -> str:
        """What was loaded."""
        return f"Sluice, {self._loaded.provenance['linear_kernel']} linears"

    def run(self, requests: list[Request], at_once: int) -> Answers:
        """Everything through `at_once` slots."""
        engine = self._engine(at_once)
        started = time.process_time()
        sequences: list[Sequence] = []
        waiting = iter(requests)
        while True:
            while engine.num_waiting < at_once and (request := next(waiting, None)) is not None:
                sampling = Sampling(max_tokens=request.num_tokens, ignore_eos=True)
                sequences.append(Sequence(len(sequences), self._prepare(request), sampling))
                engine.submit(sequences[-1])
            if not engine.has_work:
                break
            engine.step()
        answers = [sequence.tokens for sequence in sequences]
        return Answers(time.process_time() - started, sum(map(len, answers)), answers)

    def _engine(self, num_slots: int) -> Engine:
        """As a worker of so many slots has it, but for the caches: every picture is new."""
        if num_slots not in self._engines:
            config = EngineConfig(max_prefill_tokens=PREFILL_TOKENS["cpu"])
            serving = make_slot_model(self._loaded, Limits(num_slots, CONTEXT_TOKENS), config)
            self._engines[num_slots] = Engine(serving.model, serving.config)
        return self._engines[num_slots]

    def _prepare(self, request: Request) -> Prepared:
        with Image.open(request.image) as image:
            pixels = np.asarray(image.convert("RGB"))
        picture = DecodedImage(pixels, (pixels.shape[1], pixels.shape[0]))
        return self._loaded.prompter.prepare(messages_of(request, {"type": "image"}), [picture])


if __name__ == "__main__":
    ours = Ours(sys.argv[1])
    serve(ours.run, ours.about)
